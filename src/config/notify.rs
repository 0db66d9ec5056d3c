//! Who is told what, and by which ways.

use std::path::PathBuf;

use super::{BadSetting, Given, Reader, mail};
use crate::cli::Settings;
use crate::notify::{BadNotify, Channel, Kinds, NotifySettings, Template, split_urls};
use crate::secret::Secret;

impl From<BadNotify> for BadSetting {
    fn from(bad: BadNotify) -> Self {
        Self::new(bad.what, bad.hint)
    }
}

pub(super) fn notify_of(reader: &mut Reader<'_>, settings: &Settings) -> NotifySettings {
    let mail = mail::mail_of(reader, settings);
    let template = template_of(reader);
    let given = Given::new("--notify-on", &settings.notify_on, "COFFERDAM_NOTIFY_ON");
    NotifySettings {
        channels: channels_of(reader, &settings.notify, template.as_ref()),
        mail,
        on: reader.read(given, Kinds::default(), |text| Ok(text.parse()?)),
        ca_file: reader
            .variable("COFFERDAM_NOTIFY_CA_FILE")
            .map(PathBuf::from),
    }
}

fn template_of(reader: &mut Reader<'_>) -> Option<Template> {
    let (setting, text) = reader.variable_or_file(
        "COFFERDAM_NOTIFY_TEMPLATE",
        "COFFERDAM_NOTIFY_TEMPLATE_FILE",
    )?;
    let parsed = Template::parse(&text).map_err(BadSetting::from);
    reader.good(setting, parsed)
}

/// Each URL that is wrong is told, by its place in the list.
fn channels_of(
    reader: &mut Reader<'_>,
    flags: &[Secret],
    template: Option<&Template>,
) -> Vec<Channel> {
    let (setting, text) = if flags.is_empty() {
        match reader.variable_or_file("COFFERDAM_NOTIFY", "COFFERDAM_NOTIFY_FILE") {
            Some(given) => given,
            None => return Vec::new(),
        }
    } else {
        let flags: Vec<&str> = flags.iter().map(Secret::expose).collect();
        ("--notify", flags.join("\n"))
    };
    let urls = split_urls(&text);
    let is_list = urls.len() > 1;
    let mut channels = Vec::new();
    for (at, url) in urls.into_iter().enumerate() {
        let parsed =
            Channel::parse(url, template).map_err(|BadNotify { what, hint }| match is_list {
                true => BadSetting::new(format!("(URL {}) {what}", at + 1), hint),
                false => BadSetting::new(what, hint),
            });
        channels.extend(reader.good(setting, parsed));
    }
    channels
}
