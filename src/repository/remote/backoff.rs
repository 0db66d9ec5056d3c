//! How long to wait before a server is asked again.

use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Pauses that double, with some chance in them so that many clients do not come back at once.
pub(super) struct Backoff {
    next: Duration,
    /// Of the pauses alone.
    left: Duration,
    /// Attempts take their time as well.
    began: Instant,
    patience: Duration,
}

impl Backoff {
    /// `patience`: how long it may take in all, until the last attempt begins.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            next: FIRST_PAUSE,
            left: patience,
            began: Instant::now(),
            patience,
        }
    }

    /// `wanted`: the pause that the server itself asks for. `None` when patience has run out.
    pub(super) fn pause(&mut self, wanted: Option<Duration>) -> Option<Duration> {
        let own = self.next.mul_f64(rand::random_range(0.75..1.25));
        let pause = wanted.map_or(own, |wanted| wanted.max(own));
        self.left = self.left.checked_sub(pause)?;
        if self.began.elapsed() + pause > self.patience {
            return None;
        }
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let mut backoff = Backoff::new(Duration::from_secs(60));
        let pauses: Vec<_> = std::iter::from_fn(|| backoff.pause(None)).collect();
        let total: Duration = pauses.iter().sum();
        assert!(total <= Duration::from_secs(60), "{pauses:?}");
        assert!(pauses.len() > 6, "{pauses:?}");
        assert!(pauses[0] < pauses[2] && pauses[2] < pauses[4], "{pauses:?}");
    }

    #[test]
    fn a_server_that_wants_too_much_is_given_up() {
        let mut backoff = Backoff::new(Duration::from_secs(60));
        assert_eq!(
            backoff.pause(Some(Duration::from_secs(7))),
            Some(Duration::from_secs(7))
        );
        assert_eq!(backoff.pause(Some(Duration::from_secs(3600))), None);
        let mut backoff = Backoff::new(Duration::from_secs(60));
        let at_once = || backoff.pause(Some(Duration::ZERO));
        let pauses = std::iter::from_fn(at_once).count();
        assert!(pauses < 20, "{pauses}");
    }
}
