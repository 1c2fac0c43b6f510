"""What a shell does to complete `aosa-fast`: it asks `aosa-fast _complete -- WORD...`, which `completion` answers.

The first line of the answer is "files", "dirs" or nothing, a tab, and what stands before the path; each other one is a
value, a tab, and what it means.
"""

BASH = r"""# aosa-fast for bash; in ~/.bashrc: eval "$(aosa-fast completion bash)"
_aosa_fast() {
    local -a words=() files=()
    local word before='' answer kind prefix value path cut i
    for ((i = 1; i <= COMP_CWORD; i++)); do # bash parts words at : and =
        word=${COMP_WORDS[i]}
        if ((${#words[@]})) && [[ $word =~ ^[:=]+$ || ($before =~ ^[:=]+$ && $word) ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        before=$word
    done
    COMPREPLY=()
    answer=$("${COMP_WORDS[0]/#\~/$HOME}" _complete -- "${words[@]}" 2>/dev/null) || return
    word=${words[${#words[@]} - 1]}
    [[ $before =~ ^[:=]+$ ]] && before=''
    cut=$((${#word} - ${#before})) # of a value that begins before the last part
    {
        IFS=$'\t' read -r kind prefix
        while IFS=$'\t' read -r value _; do COMPREPLY+=("${value:cut}"); done
    } <<<"$answer"
    if [[ $kind ]]; then
        path=${word:${#prefix}}
        while IFS= read -r value; do
            if ((${#COMPREPLY[@]})); then
                [[ -d $value ]] && value+=/
                value=$(printf %q "$value")
            fi
            value=$prefix$value
            files+=("${value:cut}")
        done < <(compgen -"${kind:0:1}" -- "$path")
        if ((${#COMPREPLY[@]} == 0)); then compopt -o filenames -o default 2>/dev/null; fi
        COMPREPLY+=("${files[@]}")
    fi
    if ((${#COMPREPLY[@]} == 1)) && [[ ${COMPREPLY[0]} == *[:=/] ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -F _aosa_fast aosa-fast
"""

ZSH = r"""#compdef aosa-fast
# aosa-fast for zsh; in ~/.zshrc: eval "$(aosa-fast completion zsh)", or as a file _aosa-fast in a folder of fpath
_aosa_fast() {
    local -a lines whole whole_shown begun begun_shown
    local line value shown kind prefix
    lines=("${(@f)$("${(Q)words[1]/#\~/$HOME}" _complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    kind=${lines[1]%%$'\t'*}
    prefix=${lines[1]#*$'\t'}
    for line in "${(@)lines[2,-1]}"; do
        value=${line%%$'\t'*}
        shown="$value  ${line#*$'\t'}"
        if [[ $value == *[:=] ]]; then
            begun+=("$value") begun_shown+=("$shown")
        else
            whole+=("$value") whole_shown+=("$shown")
        fi
    done
    (($#whole)) && compadd -l -d whole_shown -a whole
    (($#begun)) && compadd -S '' -l -d begun_shown -a begun
    if [[ -n $kind ]]; then
        [[ -n $prefix ]] && compset -P "${(b)prefix}"
        if [[ $kind == dirs ]]; then _files -/; else _files; fi
    fi
}
if [[ $funcstack[1] == _aosa-fast ]]; then
    _aosa_fast "$@"
else
    (($+functions[compdef])) || { autoload -Uz compinit && compinit; }
    compdef _aosa_fast aosa-fast
fi
"""

FISH = r"""# aosa-fast for fish; in ~/.config/fish/config.fish: aosa-fast completion fish | source
function __aosa_fast
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~(?=/)' -- "$HOME" $words[1])
    set -l lines (command $program _complete -- $words[2..-1] "$current" 2>/dev/null)
    set -q lines[1]; or return
    set -l place (string split \t -- $lines[1])
    test (count $lines) -gt 1; and printf '%s\n' $lines[2..-1]
    set -l path (string sub --start (math (string length -- "$place[2]") + 1) -- "$current")
    switch $place[1]
        case files
            printf '%s\n' "$place[2]"(__fish_complete_path "$path")
        case dirs
            printf '%s\n' "$place[2]"(__fish_complete_directories "$path")
    end
end
complete -c aosa-fast -f -a '(__aosa_fast)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
