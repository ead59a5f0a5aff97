# shellcheck shell=bash
# Completion of gpustrap for bash 4 and newer. What may stand where, gpustrap itself knows: `gpustrap __complete WORD…`.
_gpustrap() {
    local line=${COMP_LINE:0:COMP_POINT} current word answer prefix='' nospace=''
    local -a words=()
    # By hand: bash would cut words at every = : and @, of which hosts and options are full.
    read -r -a words <<<"$line"
    [[ $line != *[[:space:]] ]] || words+=('')
    current=${words[${#words[@]} - 1]}
    local program=${1/#\~/$HOME}
    COMPREPLY=()
    while IFS= read -r answer; do
        case $answer in
        :files)
            compopt -o filenames 2>/dev/null
            while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "${current#*=}")
            ;;
        :nospace) nospace=1 ;;
        ?*) COMPREPLY+=("${answer%%$'\t'*}") ;;
        esac
    done < <("$program" __complete "${words[@]:1}" 2>/dev/null)
    [ -z "$nospace" ] || compopt -o nospace 2>/dev/null
    # Readline replaces only what stands behind the last of these; of an @ it replaces that, too.
    local -i i
    for ((i = 0; i < ${#current}; i++)); do
        [[ $COMP_WORDBREAKS == *"${current:i:1}"* ]] || continue
        case ${current:i:1} in
        [=:]) prefix=${current:0:i+1} ;;
        @) prefix=${current:0:i} ;;
        esac
    done
    [ -z "$prefix" ] || COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
}
complete -F _gpustrap gpustrap
