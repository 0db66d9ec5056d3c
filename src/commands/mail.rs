//! Mail about runs that went wrong.
//!
//! That it cannot be sent is told, and changes nothing about what the run came to.

use super::context::Context;
use super::error::CommandError;
use crate::backup::BackupReport;
use crate::exit::Outcome;
use crate::mail::{Letter, MailError, Mailer};
use crate::report;

/// `None` when nobody is to get mail.
pub fn mailer(context: &Context) -> Result<Option<Mailer>, MailError> {
    context.config.mail.as_ref().map(Mailer::open).transpose()
}

/// Sends a letter to whom it may concern.
pub async fn send(context: &Context, letter: &Letter) {
    let sent = async {
        match mailer(context)? {
            Some(mailer) => mailer.send(letter).await,
            None => Ok(()),
        }
    };
    tokio::select! {
        biased;
        () = context.interrupt.cancelled() => {}
        sent = sent => if let Err(error) = sent {
            context.tell(&CommandError::failed(error));
        }
    }
}

/// Sends a letter about a backup that has come to its end and is not whole.
pub async fn about_backups(context: &Context, reports: &[BackupReport], failures: &[CommandError]) {
    let failures: Vec<String> = failures.iter().map(CommandError::to_string).collect();
    if let Some(letter) = report::letter::backups(reports, &failures, &context.view()) {
        send(context, &letter).await;
    }
}

/// Sends a letter about a backup that could not even begin.
pub async fn about_no_backup(context: &Context, error: &CommandError) {
    let letter = report::letter::backup_failed(&context.config.scope, &error.to_string());
    send(context, &letter).await;
}

/// Sends a letter when a backup ends before it has anything to report.
pub async fn unless_begun(
    context: &Context,
    backup: impl Future<Output = Result<Outcome, CommandError>>,
) -> Result<Outcome, CommandError> {
    let ended = backup.await;
    match &ended {
        Ok(_) | Err(CommandError::Interrupted) => {}
        Err(error) => about_no_backup(context, error).await,
    }
    ended
}
