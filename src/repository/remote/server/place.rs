use std::time::Duration;

use super::Server;

/// A directory of a server, for one test.
pub(crate) struct Place {
    pub server: &'static Server,
    /// As whom files are written there.
    pub user: &'static str,
    pub path: String,
}

impl Place {
    pub(crate) async fn plant(&self, path: &str, bytes: &[u8]) {
        let script = r#"mkdir -p "$(dirname "$1")" && cat >"$1""#;
        let path = format!("{}/{path}", self.path);
        self.server.run(self.user, script, &[&path], bytes).await;
    }

    pub(crate) async fn content(&self, path: &str) -> Vec<u8> {
        let path = format!("{}/{path}", self.path);
        self.server
            .run(self.user, r#"cat "$1""#, &[&path], b"")
            .await
    }

    /// Everything in it, without `cofferdam.json`. Sorted.
    pub(crate) async fn names(&self) -> Vec<String> {
        let script = r#"[ ! -d "$1" ] || find "$1" -mindepth 1 \( -type d -printf '%P/\n' -o -printf '%P\n' \)"#;
        let found = self.server.run(self.user, script, &[&self.path], b"").await;
        let found = String::from_utf8(found).unwrap();
        let mut names: Vec<_> = found.lines().map(str::to_owned).collect();
        names.retain(|name| name != "cofferdam.json");
        names.sort();
        names
    }

    /// Makes everything two days old.
    pub(crate) async fn age(&self) {
        let script = r#"find "$1" -exec touch -d '2 days ago' {} +"#;
        self.server.run(self.user, script, &[&self.path], b"").await;
    }

    /// Waits until only directories are left.
    pub(crate) async fn becomes_empty(&self) {
        let empty = async {
            while self.names().await.iter().any(|name| !name.ends_with('/')) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(40), empty)
            .await
            .expect("something stays");
    }
}
