# Completion of gpustrap for fish. What may stand where, gpustrap itself knows: `gpustrap __complete WORD…`.
function __gpustrap_complete
    set -l said (commandline -opc) (commandline -ct)
    set -l program $said[1]
    set -e said[1]
    for answer in ($program __complete $said 2>/dev/null)
        switch $answer
            case ':files'
                __fish_complete_path (commandline -ct)
            case ':*'
            case '*'
                printf '%s\n' $answer
        end
    end
end
complete -c gpustrap -f -a '(__gpustrap_complete)'
