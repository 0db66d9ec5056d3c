//! Its hooks: `hooks.STAGE.NUMBER.cmd`, with `.context`, the service where it runs, and `.on-error`.
//!
//! Each is run by a shell, in the order of the numbers, and one that fails ends its stage unless `on-error` is `continue`. Of a
//! stage of several hooks one command is made.

use std::collections::{BTreeMap, BTreeSet};

use crate::discover::Service;
use crate::labels::HookPoint;
use crate::migrate::RemarkKind::{Lost, ToDo};
use crate::migrate::draft::Draft;
use crate::migrate::instance::Instance;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Pre,
    /// When all went well.
    Post,
    Error,
    Finally,
}

const STAGES: [(&str, Stage); 4] = [
    ("pre", Stage::Pre),
    ("post", Stage::Post),
    ("error", Stage::Error),
    ("finally", Stage::Finally),
];

struct Hook<'a> {
    stage: Stage,
    number: u32,
    command: &'a str,
    goes_on: bool,
    context: Option<&'a str>,
    /// The label.
    by: &'a str,
}

/// Whether a label, without its prefix, belongs to a hook.
pub(super) fn is_hook(name: &str) -> bool {
    name.starts_with("hooks.")
}

/// The hooks of each service, stage by stage, in the order in which they run.
type Placed<'a> = BTreeMap<(&'a str, Stage), Vec<Hook<'a>>>;

pub(super) fn read<'a>(draft: &mut Draft<'a>, instances: &'a [Instance<'a>], prefix: &str) {
    let mut placed = placed(draft, instances, prefix);
    for service in draft.services.clone() {
        let mut of = |stage| {
            let hooks = placed.remove(&(service.name.as_str(), stage));
            hooks.unwrap_or_default()
        };
        let (pre, error) = (of(Stage::Pre), of(Stage::Error));
        let (post, finally) = (of(Stage::Post), of(Stage::Finally));
        let after = after(script(&post), script(&finally));
        let mut last = post.iter().chain(&finally);
        hook(
            draft,
            service,
            HookPoint::BeforeBackup,
            pre.first(),
            script(&pre),
        );
        hook(
            draft,
            service,
            HookPoint::FailedBackup,
            error.first(),
            script(&error),
        );
        hook(draft, service, HookPoint::AfterBackup, last.next(), after);
    }
}

/// What is global goes first before a backup, and last after it.
fn placed<'a>(draft: &mut Draft<'a>, instances: &'a [Instance<'a>], prefix: &str) -> Placed<'a> {
    let services = draft.services.clone();
    let own = services
        .iter()
        .map(|service| (service.name.as_str(), &service.container.labels, false));
    let global = instances
        .iter()
        .map(|instance| (instance.service(), &instance.container.labels, true));
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (carrier, labels, is_global) in global.chain(own) {
        for hook in hooks(draft, carrier, labels, prefix) {
            let name = hook.context.unwrap_or(carrier);
            let Some(service) = services.iter().find(|service| service.name == name) else {
                let text = "the command runs in a container that cofferdam takes the place of, or that is not there: give it to a \
                            service that stays";
                draft.remark(Lost, carrier, hook.by, text);
                continue;
            };
            let is_early = is_global == (hook.stage == Stage::Pre);
            let queue = if is_early { &mut first } else { &mut last };
            queue.push((service.name.as_str(), hook));
        }
    }
    let mut placed = Placed::new();
    for (service, hook) in first.into_iter().chain(last) {
        placed.entry((service, hook.stage)).or_default().push(hook);
    }
    placed
}

/// `first` is the hook whose label stands for all of them.
fn hook<'a>(
    draft: &mut Draft<'a>,
    service: &'a Service,
    point: HookPoint,
    first: Option<&Hook<'_>>,
    script: Option<String>,
) {
    let (Some(script), Some(first)) = (script, first) else {
        return;
    };
    match shlex::try_join(["sh", "-c", &script]) {
        Ok(command) => draft.hook(service, point, &command, first.by),
        Err(_) => {
            let text = "the command has a NUL character in it";
            draft.remark(ToDo, &service.name, first.by, text);
        }
    }
}

/// One script of what runs after a backup that went well, and of what always runs.
fn after(post: Option<String>, finally: Option<String>) -> Option<String> {
    let post = post.map(|post| {
        let post = subshell(&post);
        format!("[ \"$COFFERDAM_OUTCOME\" != done ] || {post}")
    });
    match (post, finally) {
        (Some(post), Some(finally)) => Some(format!(
            "{post}; result=$?; {}; exit $result",
            subshell(&finally)
        )),
        (post, finally) => post.or(finally),
    }
}

/// One script of the hooks of a stage.
fn script(hooks: &[Hook<'_>]) -> Option<String> {
    match hooks {
        [] => None,
        [only] if !only.goes_on => Some(only.command.to_owned()),
        several => {
            let parts = several.iter().map(|hook| match hook.goes_on {
                true => format!("{{ {} || true; }}", subshell(hook.command)),
                false => subshell(hook.command),
            });
            Some(parts.collect::<Vec<_>>().join(" && "))
        }
    }
}

/// The line breaks end whatever the script ends in: a comment, or a `;`.
fn subshell(script: &str) -> String {
    format!("(\n{script}\n)")
}

/// In the order of their numbers. What is malformed gets a remark.
fn hooks<'a>(
    draft: &mut Draft<'_>,
    service: &str,
    labels: &'a BTreeMap<String, String>,
    prefix: &str,
) -> Vec<Hook<'a>> {
    let mut hooks = Vec::new();
    let mut read = BTreeSet::new();
    for (key, command) in labels {
        let Some(base) = key.strip_suffix(".cmd") else {
            continue;
        };
        let Some((stage, number)) = stage_of(base, prefix) else {
            continue;
        };
        let option = |name: &str| labels.get(&format!("{base}.{name}")).map(String::as_str);
        read.insert(base);
        hooks.push(Hook {
            stage,
            number,
            command,
            goes_on: option("on-error") == Some("continue"),
            context: option("context"),
            by: key,
        });
    }
    let is_read = |key: &str| {
        let base = key
            .rsplit_once('.')
            .filter(|(_, option)| ["cmd", "context", "on-error"].contains(option));
        base.is_some_and(|(base, _)| read.contains(base))
    };
    for key in labels.keys() {
        let name = key.strip_prefix(prefix).unwrap_or_default();
        if is_hook(name) && !is_read(key) {
            draft.remark(Lost, service, key, "it belongs to no hook");
        }
    }
    hooks.sort_by_key(|hook| (hook.stage, hook.number));
    hooks
}

/// Of `stack-back.hooks.pre.1`.
fn stage_of(base: &str, prefix: &str) -> Option<(Stage, u32)> {
    let rest = base.strip_prefix(prefix)?.strip_prefix("hooks.")?;
    let (stage, number) = rest.split_once('.')?;
    let (_, stage) = STAGES.into_iter().find(|(name, _)| *name == stage)?;
    Some((stage, number.parse().ok()?))
}
