# What the documents name is there: relative links and their headings, verbs and flags of `weir`, keys behind --set, targets of
# make, and files of this repository in code spans.
. tests/e2e/common.bash
mapfile -t pages < <(find . -name '*.md' -not -path './build/*' -not -path './.git/*' | sed 's|^\./||' | sort)
[ "${#pages[@]}" -ge 20 ] || fail "only ${#pages[@]} pages"
bad=0
say() {
    echo "$1"
    bad=$((bad + 1))
}

slugs() { # slugs PAGE: the anchors of its headings, as GitHub makes them
    grep -E '^#+ ' "$1" | sed -E 's/^#+ //' | tr '[:upper:]' '[:lower:]' | sed -E 's/[^a-z0-9 _-]//g; s/ /-/g'
}
code() { # code PAGE: its code spans, lines of its indented and of its fenced blocks, one a line
    awk '/^```/ { fence = !fence; next }
        fence || /^    / { sub(/ # .*/, ""); print; next }
        { while (match($0, /`[^`]+`/)) { print substr($0, RSTART + 1, RLENGTH - 2); $0 = substr($0, RSTART + RLENGTH) } }' "$1"
}

for page in "${pages[@]}"; do
    while read -r link; do
        case $link in http*://* | mailto:*) continue ;; esac
        target=${link%%#*} anchor=
        [[ $link == *'#'* ]] && anchor=${link#*#}
        file=$page
        [ -n "$target" ] && file=$(dirname "$page")/$target
        [ -e "$file" ] || { say "$page: the link $link leads nowhere" && continue; }
        [ -z "$anchor" ] || slugs "$file" | grep -qxF -- "$anchor" || say "$page: $link: no such heading"
    done < <(grep -oE '\]\([^)]+\)' "$page" | sed -E 's/^\]\(//; s/\)$//')
done

# Verbs, flags, keys. Help is asked once a verb; a service's verb is no user's, but may be named.
declare -A help
for verb in $("$WEIR" 2>&1 | sed -nE 's/^  ([a-z]+) .*/\1/p'); do
    help[$verb]=" $("$WEIR" "$verb" --help 2>&1 | grep -oE -- '--[a-z][a-z-]*' | sort -u | tr '\n' ' ') --help "
done
[ "${#help[@]}" -ge 12 ] || fail "only ${#help[@]} verbs"
services=' manager relay reward rollout trainer trainer-rank evaluator VERB '
# The first column of the table of keys, without backticks and brackets.
keys=" $("$WEIR" run --document | grep '^| .[a-z]' | cut -d' ' -f2 | tr -d '[]\140' | tr '\n' ' ') data.eval reward key "
for page in "${pages[@]}"; do
    code "$page" >"$DIR/code"
    case $page in docs/status.md | README.md) planned=' up submit status top stop ' ;; *) planned=' ' ;; esac
    while read -r line; do
        read -r _ verb rest <<<"$line"
        verb=${verb%%[:;,.]*}
        [[ "$services$planned" == *" $verb "* || -z $verb ]] && continue
        [ -n "${help[$verb]:-}" ] || { say "$page: weir $verb: no such verb" && continue; }
        for flag in $(grep -oE -- '(^| |\[)--[a-z][a-z-]*' <<<"$rest" | tr -d ' ['); do
            [[ "${help[$verb]}" == *" $flag "* ]] || say "$page: weir $verb has no $flag"
        done
    done < <(grep -vE 'gdb|addr2line|WEIR=' "$DIR/code" | grep -oE '(^|[ /("$])weir [a-zA-Z-]+.*' | sed -E 's/^[^w]//; s/(\$|;|\| ).*weir.*//')
    while read -r key; do
        [[ "$keys" == *" $key "* ]] || say "$page: --set $key: no such key"
    done < <(grep -oE -- '--set[= ]"?[a-z][a-z0-9_.]*(\[[0-9]\][a-z_.]*)?=' "$DIR/code" | sed -E 's/^--set[= ]"?//; s/=$//; s/\[[0-9]\]//')
    while read -r target; do
        grep -qE "^$target:" Makefile || say "$page: make $target: no such target"
    done < <(grep -oE '^ *make [a-z][a-z-]*( |$)' "$DIR/code" | awk '{ print $2 }')
    while read -r path; do
        for file in $(eval "echo $path"); do
            [ -e "$file" ] || compgen -G "$file" >/dev/null || say "$page: $file is not there"
        done
    done < <(grep -xE '(actor|base|bench|deploy|docs|kernels|proto|recipes|relay|reward|rollout|scripts|tests|trainer)/[A-Za-z0-9_./{},*-]+' "$DIR/code" | grep '[./]$\|\.' | grep -v 'NAME')
done
[ "$bad" = 0 ] || fail "$bad findings"
