"""`shmmap completion`: a script for a shell that completes commands, options and names of maps.

The script is made from the parser, so it knows what this version knows; names of maps are asked for
at that moment, with `shmmap ls --names`.
"""

from __future__ import annotations

import argparse
import re
import shlex
from typing import NamedTuple

from . import named

SHELLS = ("bash", "zsh", "fish")
_NAMES = "NAME"  # the metavar of what is a map's name
_FILES = "FILE"


class Taken(NamedTuple):
    """What a command takes.

    Attributes:
        name, help: of the command.
        options: of each its forms, its help, and what may follow it: None: nothing; "": something.
        places: for each positional argument what it can be: the words; or (NAME,), (FILE,); ().
        repeats: whether the last of these can come again and again.
    """

    name: str
    help: str
    options: tuple[tuple[tuple[str, ...], str, str | None], ...]
    places: tuple[tuple[str, ...], ...]
    repeats: bool


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    command.description = __doc__
    command.add_argument("shell", metavar="|".join(SHELLS), choices=SHELLS)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    """Print the script of a shell."""
    from .cli import make_parser

    taken = commands_of(make_parser())
    print({"bash": bash, "zsh": zsh, "fish": fish}[options.shell](taken), end="")
    return 0


def commands_of(parser: argparse.ArgumentParser) -> list[Taken]:
    """Read from a parser what its commands take."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {one.dest: one.help or "" for one in action._choices_actions}
            found += [_taken(name, helps[name], one) for name, one in action.choices.items()]
    return found


def _taken(name: str, help_text: str, parser: argparse.ArgumentParser) -> Taken:
    options, places, repeats = [], [], False
    for action in parser._actions:
        if action.option_strings:
            follows = None if action.nargs == 0 else " ".join(map(str, action.choices or ()))
            text = (action.help or "").replace("%%", "%")
            options.append((tuple(action.option_strings), text, follows))
        else:
            repeats = action.nargs in ("+", "*")
            if action.choices:
                places.append(tuple(map(str, action.choices)))
            else:
                places.append((str(action.metavar),) if action.metavar in (_NAMES, _FILES) else ())
    return Taken(name, help_text, tuple(options), tuple(places), repeats)


def _words(one: Taken) -> str:
    return " ".join(form for forms, _, _ in one.options for form in forms)


def _with_values(one: Taken) -> str:
    return " ".join(form for forms, _, follows in one.options if follows is not None
                    for form in forms)


def bash(taken: list[Taken]) -> str:
    """Write the script of bash."""
    cases = []
    for one in taken:
        places = [shlex.quote(" ".join(place)) for place in one.places]
        cases.append(
            f"        {one.name}) options={shlex.quote(_words(one))}"
            f" valued={shlex.quote(_with_values(one))} repeats={int(one.repeats)}"
            f" places=({' '.join(places)})"
            + "".join(f"\n            [[ \" {' '.join(forms)} \" == *\" $before \"* ]] && "
                      f"follows={shlex.quote(follows)}"
                      for forms, _, follows in one.options if follows) + " ;;"
        )
    names = " ".join(one.name for one in taken)
    return _BASH.replace("@COMMANDS@", names).replace("@CASES@", "\n".join(cases))


_BASH = r"""# bash completion of shmmap; put this into ~/.bashrc: source <(shmmap completion bash)
_shmmap() {  # bash has the words in pieces, at each @ and : of them
    local line=${COMP_LINE:0:COMP_POINT}
    local -a words; read -ra words <<< "$line"
    [[ $line == *" " ]] && words+=("")
    local last=$((${#words[@]} - 1)) at
    local cur=${words[last]}
    _shmmap_offer
    local start=${cur%"${cur##*[@:=]}"}
    for at in "${!COMPREPLY[@]}"; do COMPREPLY[at]=${COMPREPLY[at]#"$start"}; done
}
_shmmap_offer() {
    local before=${words[last-1]} options= valued= repeats=0 follows= place=-1 word
    local -a places=()
    COMPREPLY=()
    if ((last == 1)); then
        COMPREPLY=($(compgen -W "@COMMANDS@ --help --version" -- "$cur"))
        return
    fi
    case ${words[1]} in
@CASES@
    esac
    if [[ " $valued " == *" $before "* ]]; then
        COMPREPLY=($(compgen -W "$follows" -- "$cur"))
        return
    fi
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
        return
    fi
    for ((at = 2; at <= last; at++)); do
        word=${words[at]}
        [[ $word == -* && $at -lt $last ]] && continue
        [[ " $valued " == *" ${words[at-1]} "* ]] && continue
        ((place++))
    done
    if ((repeats && place >= ${#places[@]})); then place=$((${#places[@]} - 1)); fi
    case ${places[place]-} in
        NAME) COMPREPLY=($(compgen -W "$("${words[0]}" ls --names 2>/dev/null)" -- "$cur")) ;;
        FILE) COMPREPLY=($(compgen -f -- "$cur")) ;;
        *) COMPREPLY=($(compgen -W "${places[place]-}" -- "$cur")) ;;
    esac
}
complete -o bashdefault -F _shmmap shmmap
"""


def zsh(taken: list[Taken]) -> str:
    """Write the script of zsh."""
    cases = []
    for one in taken:
        specs = []
        for forms, text, follows in one.options:
            for form in forms:
                value = "" if follows is None else f":{form.lstrip('-')}:({follows})"
                specs.append(f"{form}[{_plain(text)}]{value}")
        for at, place in enumerate(one.places, 1):
            what = "_shmmap_names" if place == (_NAMES,) else (
                "_files" if place == (_FILES,) else f"({' '.join(place)})")
            repeated = one.repeats and at == len(one.places)
            specs.append(f"{'*' if repeated else at}:{one.name}:{what}")
        lines = " \\\n                ".join(map(shlex.quote, specs))
        cases.append(f"        {one.name}) _arguments -s \\\n                {lines} ;;")
    listed = "\n".join(f"        {shlex.quote(f'{one.name}:{_plain(one.help)}')}" for one in taken)
    return _ZSH.replace("@COMMANDS@", listed).replace("@CASES@", "\n".join(cases))


def _plain(text: str) -> str:
    """Leave out what has a meaning in the words of a shell's own little language."""
    return re.sub(r"[\[\]:\\`$\"']", "", text)


_ZSH = r"""#compdef shmmap
# zsh completion of shmmap; put this into ~/.zshrc: source <(shmmap completion zsh)
_shmmap_names() {
    local -a names=(${(f)"$(shmmap ls --names 2>/dev/null)"})
    compadd -- $names
}
_shmmap() {
    local -a commands=(
@COMMANDS@
    )
    if ((CURRENT == 2)); then
        _describe command commands
        compadd -- --help --version
        return
    fi
    local command=${words[2]}
    shift words
    ((CURRENT--))
    case $command in
@CASES@
    esac
}
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then _shmmap "$@"; else compdef _shmmap shmmap; fi
"""


def fish(taken: list[Taken]) -> str:
    """Write the script of fish."""
    lines = ["# fish completion of shmmap; put this into ~/.config/fish/config.fish:",
             "#     shmmap completion fish | source",
             "complete -c shmmap -f",
             "complete -c shmmap -n __fish_use_subcommand -l help -l version"]
    for one in taken:
        lines.append(f"complete -c shmmap -n __fish_use_subcommand -a {one.name} "
                     f"-d {_fish(one.help)}")
    for one in taken:
        start = f'complete -c shmmap -n "__fish_seen_subcommand_from {one.name}"'
        for forms, text, follows in one.options:
            said = " ".join(f"-l {form[2:]}" if form.startswith("--") else f"-s {form[1:]}"
                            for form in forms)
            value = "" if follows is None else " -x" + (f" -a {_fish(follows)}" if follows else "")
            lines.append(f"{start} {said}{value} -d {_fish(text)}")
        for place in dict.fromkeys(one.places):
            if place == (_NAMES,):
                lines.append(f"{start} -a \"(shmmap ls --names 2>/dev/null)\"")
            elif place == (_FILES,):
                lines.append(f"{start} -F")
            elif place:
                lines.append(f"{start} -a {_fish(' '.join(place))}")
    return "\n".join(lines) + "\n"


def _fish(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


COMMANDS = (
    named.Command("completion", "print a script that completes commands in a shell", add_command,
                  ("source <(shmmap completion bash)", "shmmap completion fish | source")),
)
