//! What is sent, and how it becomes a message.

use lettre::Message;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};

use super::{MailError, MailSettings};
use crate::text::{printable, printable_lines};

/// Longer subjects are cut: who reads mail sees no more of them.
const LONGEST_SUBJECT: usize = 200;

/// Plain text. Names from outside may stand in both parts: nothing in them can become a header, or drive a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub subject: String,
    pub body: String,
}

impl Letter {
    pub(super) fn compose(&self, settings: &MailSettings) -> Result<Message, MailError> {
        let mut subject = printable(&self.subject);
        if let Some((cut, _)) = subject.char_indices().nth(LONGEST_SUBJECT) {
            subject.truncate(cut);
            subject.push('…');
        }
        let mut message = Message::builder()
            .from(settings.from.clone())
            .subject(subject)
            .message_id(None)
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN);
        for to in &settings.to {
            message = message.to(to.clone());
        }
        let body = printable_lines(&self.body) + "\n";
        message.body(body).map_err(MailError::Message)
    }
}

/// RFC 3834: keeps holiday notices from being sent back.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Security, SmtpServer};
    use super::*;

    fn composed(subject: &str, body: &str) -> String {
        let settings = MailSettings {
            server: SmtpServer {
                host: "localhost".to_owned(),
                port: 25,
                security: Security::Plain,
            },
            login: None,
            ca_file: None,
            from: "Cofferdam <cofferdam@example.org>".parse().unwrap(),
            to: vec![
                "ops@example.org".parse().unwrap(),
                "\"Night, shift\" <night@example.org>".parse().unwrap(),
            ],
        };
        let letter = Letter {
            subject: subject.to_owned(),
            body: body.to_owned(),
        };
        let message = letter.compose(&settings).unwrap();
        String::from_utf8(message.formatted()).unwrap()
    }

    fn headers(message: &str) -> Vec<&str> {
        let (head, _) = message.split_once("\r\n\r\n").unwrap();
        let names = head.split("\r\n").filter(|line| !line.starts_with(' '));
        names.map(|line| line.split(':').next().unwrap()).collect()
    }

    #[test]
    fn a_letter_is_a_plain_message() {
        let message = composed("shop: stale", "one\ntwo");
        assert_eq!(
            headers(&message),
            [
                "From",
                "Subject",
                "Message-ID",
                "Auto-Submitted",
                "Content-Type",
                "To",
                "Content-Transfer-Encoding",
                "Date"
            ]
        );
        assert!(message.contains("Subject: shop: stale\r\n"), "{message}");
        assert!(message.ends_with("\r\n\r\none\r\ntwo\r\n"), "{message}");
    }

    #[test]
    fn names_cannot_become_headers_or_commands() {
        let hostile = "shop\r\nBcc: thief@example.org\r\n\r\nhello\u{1b}[2J";
        let message = composed(hostile, &format!("{hostile}\r\n.\r\nQUIT"));
        assert!(!headers(&message).contains(&"Bcc"), "{message}");
        assert!(!message.contains('\u{1b}'), "{message}");
        let usual = composed("a", "b");
        assert_eq!(headers(&message), headers(&usual));
    }

    #[test]
    fn everything_is_sent_in_seven_bits() {
        let message = composed("größer als früher", &"ü".repeat(3000));
        assert!(message.is_ascii(), "{message}");
        assert!(message.lines().all(|line| line.len() < 1000));
        let long = composed(&"x".repeat(5000), &"y".repeat(5000));
        assert!(long.lines().all(|line| line.len() < 1000));
        assert!(!long.contains(&"x".repeat(LONGEST_SUBJECT + 1)));
    }
}
