//! "Did you mean": the valid label or word that is most like what was written.

use super::table::{NAME, PREFIX, TABLE, TREE_OPTIONS};

/// The valid label that is most like an unknown one, with the user's own name kept, and what it is for; `None` when
/// nothing is near.
pub fn nearest(key: &str) -> Option<(String, &'static str)> {
    TABLE
        .iter()
        .map(|entry| {
            let candidate = instantiate(entry.pattern, key);
            let only_the_name_is_missing =
                entry.pattern.strip_suffix(NAME) == Some(&format!("{key}."));
            let score = if only_the_name_is_missing {
                1.0
            } else {
                similarity(key, &candidate)
            };
            (score, candidate, entry.summary)
        })
        .filter(|(score, ..)| *score >= 0.6)
        .max_by(|(a, ..), (b, ..)| a.total_cmp(b))
        .map(|(_, candidate, summary)| (candidate, summary))
}

/// Fills the pattern's name with the part of `key` that stands in its place: `cofferdam.volume.my.data.exlude` makes
/// `cofferdam.volumes.my.data.exclude`.
fn instantiate(pattern: &str, key: &str) -> String {
    let Some((before, after)) = pattern.split_once(NAME) else {
        return pattern.to_owned();
    };
    let dots = |text: &str| text.matches('.').count();
    let parts: Vec<&str> = key.split('.').collect();
    let (first, last) = (dots(before), parts.len().saturating_sub(dots(after)));
    match parts.get(first..last) {
        None | Some([]) => pattern.to_owned(),
        Some(name) if name.contains(&"") || TREE_OPTIONS.contains(&name[name.len() - 1]) => {
            pattern.to_owned()
        }
        Some(name) => format!("{before}{}{after}", name.join(".")),
    }
}

/// From 0 to 1, by what follows the prefix: it is common to all.
fn similarity(key: &str, candidate: &str) -> f64 {
    let tail = |text: &str| {
        text.split_once('.')
            .map_or("", |(_, tail)| tail)
            .to_lowercase()
            .replace('_', "-")
    };
    strsim::normalized_damerau_levenshtein(&tail(key), &tail(candidate))
}

/// Whether the key was probably meant to begin with [`PREFIX`] and does not: `coferdam.enable`.
pub fn is_misspelt_prefix(key: &str) -> bool {
    let head = key.split('.').next().unwrap_or_default();
    !key.starts_with(PREFIX)
        && strsim::osa_distance(&head.to_lowercase(), PREFIX.trim_end_matches('.')) <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_label_keeps_the_users_name() {
        for (key, expected) in [
            ("cofferdam.postgress", Some("cofferdam.postgres")),
            ("cofferdam.enabled", Some("cofferdam.enable")),
            ("cofferdam.Enable", Some("cofferdam.enable")),
            (
                "cofferdam.postgres.password_file",
                Some("cofferdam.postgres.password-file"),
            ),
            (
                "cofferdam.postgres.exclude-table",
                Some("cofferdam.postgres.exclude-tables"),
            ),
            (
                "cofferdam.volume.my.data.exlude",
                Some("cofferdam.volumes.my.data.exclude"),
            ),
            (
                "cofferdam.volumes.exclude",
                Some("cofferdam.volumes.<name>.exclude"),
            ),
            ("cofferdam.files", Some("cofferdam.files.<name>")),
            ("cofferdam.file.conf", Some("cofferdam.files.conf")),
            (
                "cofferdam.hook.pre-backup",
                Some("cofferdam.hook.before-backup"),
            ),
            (
                "cofferdam.hooks.after-restore.timout",
                Some("cofferdam.hook.after-restore.timeout"),
            ),
            ("cofferdam.holdfor", Some("cofferdam.hold-for")),
            ("cofferdam.xyzzy", None),
        ] {
            let near = nearest(key).map(|(label, _)| label);
            assert_eq!(near.as_deref(), expected, "{key}");
        }
    }

    #[test]
    fn a_misspelt_prefix_is_seen() {
        for (key, misspelt) in [
            ("coferdam.enable", true),
            ("Cofferdam.enable", true),
            ("cofferdams.enable", true),
            ("cofferdam", true),
            ("cofferdam.enable", false),
            ("com.docker.compose.project", false),
            ("traefik.enable", false),
            ("", false),
        ] {
            assert_eq!(is_misspelt_prefix(key), misspelt, "{key}");
        }
    }
}
