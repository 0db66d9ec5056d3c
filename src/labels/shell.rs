//! What in a command only a shell understands. No shell runs it: it would be an argument like any other, and the command may end
//! well without having done what was meant.

use super::values::BadValue;

/// Stands for a character that is quoted.
const QUOTED: char = '\'';

/// Between two commands.
const OPERATORS: [&str; 5] = ["&&", "||", ";", "|", "&"];
/// Those of them that no argument is likely to have in its midst: `|` is in patterns, `&` in addresses.
const UNLIKELY: [&str; 3] = ["&&", "||", ";"];

/// The error does not repeat the command, which may hold a secret.
pub(super) fn ensure_no_shell_is_needed(command: &str) -> Result<(), BadValue> {
    for word in unquoted(command) {
        if let Some(operator) = operator_in(&word) {
            return Err(BadValue::new(
                format!("contains `{operator}`, but is not run by a shell"),
                "wrap the command in `sh -c '…'`, or quote the word",
            ));
        }
        let sign = match (has_variable(&word), word.contains('`')) {
            (true, _) => "`$…`",
            (false, true) => "a backquote",
            (false, false) => continue,
        };
        return Err(BadValue::new(
            format!("contains {sign}, but is not run by a shell"),
            "wrap the command in `sh -c '…'` (in a compose file with `$$` for each `$`), or put the word in `'…'`",
        ));
    }
    Ok(())
}

/// The words of a command, with [`QUOTED`] for each character in them that is quoted or escaped.
fn unquoted(command: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut quote = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        let shown = match (quote, character) {
            // A comment.
            (None, '#') if word.is_empty() => {
                characters.by_ref().find(|next| *next == '\n');
                continue;
            }
            (None, ' ' | '\t' | '\n') => {
                words.push(std::mem::take(&mut word));
                continue;
            }
            (None | Some('"'), '\\') => {
                characters.next();
                QUOTED
            }
            (None, '\'' | '"') => {
                quote = Some(character);
                QUOTED
            }
            (None, _) => character,
            (Some(open), _) => {
                quote = quote.filter(|_| character != open);
                QUOTED
            }
        };
        word.push(shown);
    }
    words.push(word);
    words
}

fn operator_in(word: &str) -> Option<&'static str> {
    let mut operators = OPERATORS.into_iter();
    let alone = operators.find(|operator| word == *operator);
    // `2>/dev/null`, `&>/dev/null`
    let redirected = word.trim_start_matches(|first: char| first.is_ascii_digit() || first == '&');
    let mut redirections = [">", "<"].into_iter();
    alone
        .or_else(|| redirections.find(|sign| redirected.starts_with(sign)))
        .or_else(|| word.ends_with(';').then_some(";"))
        .or_else(|| {
            let mut unlikely = UNLIKELY.into_iter();
            unlikely.find(|operator| starts_a_program(word, operator))
        })
}

/// `touch /a;touch /b`. What follows the operator in an argument such as `s/a;b/` or `--list=one;two` is not a program's name, or
/// it is an option that has it.
fn starts_a_program(word: &str, operator: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_lowercase() || "0123456789-_".contains(letter);
    let is_name = |text: &str| {
        text.len() > 1
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.chars().all(is_part)
    };
    let is_argument = word.starts_with('-') || word.contains('=');
    let mut parts = word.split(operator).skip(1);
    !is_argument && parts.any(is_name)
}

/// `$NAME`, `${NAME}` or `$(command)`. A pattern may end in `$`.
fn has_variable(word: &str) -> bool {
    let mut next = word.split('$').skip(1);
    next.any(|after| {
        after.starts_with(|first: char| first.is_ascii_alphabetic() || "_({".contains(first))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_shell_understands_is_refused_where_nothing_quotes_it() {
        for (command, sign) in [
            ("echo frozen >/data/flag", "`>`"),
            ("echo frozen >>/data/flag", "`>`"),
            ("fsfreeze 2>/dev/null", "`>`"),
            ("fsfreeze &>/dev/null", "`>`"),
            ("fsfreeze 2>&1", "`>`"),
            ("echo frozen > /data/flag", "`>`"),
            ("load <'/data/my dump'", "`<`"),
            ("a && b", "`&&`"),
            ("a | b", "`|`"),
            ("sleep 9 &", "`&`"),
            ("touch /a; touch /b", "`;`"),
            ("touch '/a'; touch /b", "`;`"),
            ("touch /a;touch /b", "`;`"),
            ("touch /a&&touch /b", "`&&`"),
            ("redis-cli -a $PASS SAVE", "`$…`"),
            ("redis-cli -a ${PASS} SAVE", "`$…`"),
            ("redis-cli -a$_pass SAVE", "`$…`"),
            ("redis-cli -a $$PASS SAVE", "`$…`"),
            ("redis-cli -a '$'$PASS SAVE", "`$…`"),
            ("redis-cli -a $(cat /pass) SAVE", "`$…`"),
            ("redis-cli -a `cat /pass` SAVE", "a backquote"),
        ] {
            let refused = ensure_no_shell_is_needed(command).unwrap_err();
            let what = format!("contains {sign}, but is not run by a shell");
            assert_eq!(refused.what, what, "{command}");
        }
    }

    #[test]
    fn what_is_quoted_or_means_itself_is_an_argument() {
        for command in [
            "sh -c 'echo $X >f; touch `pwd` && sync'",
            r#"sh -c "echo \"$X\" >f; touch `pwd` && sync""#,
            r"find /a -exec rm {} \;",
            "find /a -exec rm {} ';'",
            r"redis-cli -a \$PASS",
            "cut -d '|' f",
            "dump --where=a>b",
            "sed s/a;b/ f",
            "sed s/one;two/ f",
            "cmake -DLIST=one;two",
            "grep ^a|b$ f",
            "curl http://db/?a=1&b=2",
            "echo 5$ $1 a$",
            "sync # touch /a; touch $B",
            "echo a#$",
        ] {
            assert_eq!(ensure_no_shell_is_needed(command), Ok(()), "{command}");
        }
    }

    #[test]
    fn words_are_those_that_the_command_is_split_into() {
        for command in [
            r#"a 'b c' "d \" e" f\ g"#,
            "  a\t''  b ",
            "a#b #c d",
            "#a",
            r#"a'b'"c"\d"#,
        ] {
            let words = unquoted(command);
            let words = words.iter().filter(|word| !word.is_empty()).count();
            let split = shlex::split(command).map(|words| words.len());
            assert_eq!(Some(words), split, "{command}");
        }
    }
}
