#compdef gpustrap
# Completion of gpustrap for zsh. What may stand where, gpustrap itself knows: `gpustrap __complete WORD…`.
_gpustrap() {
    local answer word what files='' nospace=''
    local -a said plain described
    said=("${(@Q)words[2,CURRENT - 1]}" "${(Q)PREFIX}")
    # Its answer is a line for each candidate; what it is stands behind a tab.
    for answer in "${(@f)$(_call_program gpustrap ${(q)${(Q)words[1]}} __complete "${(@q)said}" 2>/dev/null)}"; do
        case $answer in
            ('') ;;
            (:files) files=1 ;;
            (:nospace) nospace=1 ;;
            (*)
                word=${answer%%$'\t'*} what=''
                [[ $answer != *$'\t'* ]] || what=${answer#*$'\t'}
                plain+=("$word")
                described+=("${word//:/\\:}${what:+:$what}")
                ;;
        esac
    done
    local found=1
    if (( $#plain )); then
        if [[ -n $nospace ]]; then
            _describe -t gpustrap gpustrap described plain -S '' && found=0
        else
            _describe -t gpustrap gpustrap described plain && found=0
        fi
    fi
    [[ -z $files ]] || { _files && found=0 }
    return found
}
if [[ ${funcstack[1]} == _gpustrap ]]; then
    _gpustrap "$@"
else
    compdef _gpustrap gpustrap
fi
