//! `cofferdam.command.<name>.…`

use super::TRANSFERS;
use crate::labels::table::CommandLabel;
use crate::labels::values::{self, BadValue};
use crate::labels::{CommandLabels, CommandOptions};

#[derive(Default)]
pub(super) struct CommandDraft {
    dump: Option<Vec<String>>,
    options: CommandOptions,
}

impl CommandDraft {
    pub(super) fn set(&mut self, option: CommandLabel, value: &str) -> Result<(), BadValue> {
        let options = &mut self.options;
        match option {
            CommandLabel::Dump => self.dump = Some(values::command(value)?),
            CommandLabel::Load => options.load = Some(values::command(value)?),
            CommandLabel::Check => options.check = Some(values::command(value)?),
            CommandLabel::AllowEmpty => options.allow_empty = values::boolean(value)?,
            CommandLabel::EndsWith => {
                options.ends_with = Some(values::text(value, "the last line of a complete dump")?);
            }
            CommandLabel::DataDirectory => options.data_directory = Some(values::path(value)?),
            CommandLabel::Timeout => options.timeout = values::duration(value)?,
            CommandLabel::Transfer => options.transfer = values::word(value, &TRANSFERS)?,
            CommandLabel::Scratch => options.scratch = Some(values::path(value)?),
            CommandLabel::ExecUser => {
                options.exec_user = Some(values::text(value, "a system user of the container")?);
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Option<CommandLabels> {
        Some(CommandLabels {
            dump: self.dump?,
            options: self.options,
        })
    }
}
