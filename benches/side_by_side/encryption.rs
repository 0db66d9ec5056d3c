//! What encryption costs: the volume of the case `volume`, in the clear and to one recipient.

use std::fs;

use age::secrecy::ExposeSecret;

use super::{Bench, Failure, forget, median, say, timed};

/// Of the time in the clear.
const LIMIT: f64 = 1.35;
/// In KiB, as for what is not encrypted.
const MOST_MEMORY: u64 = 64 * 1024;

impl Bench {
    pub fn encryption(&self) -> Result<bool, Failure> {
        self.start_app(3)?;
        let identity = age::x25519::Identity::generate();
        let recipient = identity.to_public().to_string();
        let file = self.work.join("key.txt");
        fs::write(&file, identity.to_string().expose_secret())?;
        let file = file.display().to_string();
        let ways: [(&[&str], &[&str]); 2] = [
            (&[], &[]),
            (&["--recipient", &recipient], &["--identity-file", &file]),
        ];

        let mut backups = [Vec::new(), Vec::new()];
        let mut restores = [Vec::new(), Vec::new()];
        let mut peak = 0;
        for round in 0..self.rounds {
            say(&format!("encryption, round {}", round + 1));
            for (way, (write, read)) in ways.into_iter().enumerate() {
                self.clear(&self.snapshots())?;
                let backup = [&["backup", "*/volume/*"], write].concat();
                backups[way].push(timed(|| self.cofferdam(&backup))?);
                forget(&self.snapshots())?;
                let restore = [&["restore", "latest", "*/volume/*", "--yes"], read].concat();
                restores[way].push(timed(|| self.cofferdam(&restore))?);
                if round == 0 {
                    peak = peak.max(self.peak(&backup)?).max(self.peak(&restore)?);
                }
            }
        }
        let ratio = |[plain, encrypted]: &[Vec<_>; 2]| {
            median(encrypted).as_secs_f64() / median(plain).as_secs_f64()
        };
        let (backup, restore) = (ratio(&backups), ratio(&restores));
        println!(
            "encryption         backup {:.2}s, {backup:.2} of {:.2}s in the clear; restore {:.2}s, {restore:.2} of {:.2}s (at most \
             {LIMIT:.2}); peak memory {:.1} MiB",
            median(&backups[1]).as_secs_f64(),
            median(&backups[0]).as_secs_f64(),
            median(&restores[1]).as_secs_f64(),
            median(&restores[0]).as_secs_f64(),
            peak as f64 / 1024.0
        );
        Ok(backup <= LIMIT && restore <= LIMIT && peak <= MOST_MEMORY)
    }
}
