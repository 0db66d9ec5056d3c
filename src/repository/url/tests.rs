use super::*;

fn parse(text: &str) -> Result<RepositoryUrl, BadUrl> {
    RepositoryUrl::parse(text, Path::new("/home/me"))
}

fn store(text: &str) -> StoreUrl {
    match parse(text) {
        Ok(RepositoryUrl::Store(url)) => *url,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn directories_become_absolute() {
    for (text, expected) in [
        ("/backups", Some("/backups")),
        ("backups", Some("/home/me/backups")),
        ("./s3:odd", Some("/home/me/./s3:odd")),
        ("c:/odd", Some("/home/me/c:/odd")),
        ("file:///srv/my%20backups", Some("/srv/my backups")),
        ("file:/srv/backups", Some("/srv/backups")),
        ("FILE://localhost/srv", Some("/srv")),
        ("file://nas/srv", None),
        ("file://srv", None),
        ("file:srv", None),
        ("file:///srv?x", None),
        ("file:///%ff", None),
        ("file:///a%00b", None),
        ("", None),
        ("a\0b", None),
    ] {
        let expected = expected.map(|path| RepositoryUrl::Directory(PathBuf::from(path)));
        assert_eq!(parse(text).ok(), expected, "{text}");
    }
}

#[test]
fn a_store_has_a_bucket_and_a_prefix() {
    for (text, scheme, authority, prefix) in [
        ("s3://bucket", Scheme::S3, "bucket", ""),
        ("S3://bucket/", Scheme::S3, "bucket", ""),
        ("s3://bucket/a/b/", Scheme::S3, "bucket", "a/b"),
        ("az://box/a%20b", Scheme::Azure, "box", "a b"),
        ("gs://bucket/a", Scheme::Google, "bucket", "a"),
        (
            "webdav+https://host:8443/remote.php/dav",
            Scheme::WebDav { tls: true },
            "host:8443",
            "remote.php/dav",
        ),
        ("sftp://host/srv", Scheme::Sftp, "host", "srv"),
        ("sftp://[::1]:23/srv", Scheme::Sftp, "[::1]:23", "srv"),
        ("sftp://[::1]/srv", Scheme::Sftp, "[::1]", "srv"),
        (
            "webdav+https://host/files/me@example.org",
            Scheme::WebDav { tls: true },
            "host",
            "files/me@example.org",
        ),
    ] {
        let url = store(text);
        let found = (url.scheme, url.authority.as_str(), url.prefix.as_str());
        assert_eq!(found, (scheme, authority, prefix), "{text}");
    }
    assert_eq!(store("sftp://me@host/a").user.as_deref(), Some("me"));
}

#[test]
fn options_are_read() {
    let url = store(
        "s3://b/p?endpoint=https://s3.example.org:9000/&region=eu-1&path-style=false&ca-file=/ca.pem\
         &credentials-file=/run/secrets/s3&sse=aws:kms&kms-key=arn:aws:kms:x&storage-class=STANDARD_IA&part-size=16MiB",
    );
    let expected = StoreOptions {
        endpoint: Some("https://s3.example.org:9000".to_owned()),
        region: Some("eu-1".to_owned()),
        path_style: Some(false),
        ca_file: Some("/ca.pem".into()),
        credentials_file: Some("/run/secrets/s3".into()),
        server_side_encryption: Some(ServerSideEncryption::Kms {
            key: Some("arn:aws:kms:x".to_owned()),
        }),
        storage_class: Some("STANDARD_IA".to_owned()),
        part_size: Some(16 * 1024 * 1024),
        ..StoreOptions::default()
    };
    assert_eq!(url.options, expected);
    assert_eq!(url.to_string(), "s3://b/p at https://s3.example.org:9000");
}

#[test]
fn what_is_wrong_is_told_and_the_url_is_not_repeated() {
    let refusals: Vec<String> = [
        "ftp://host/x",
        "https://s3.example.org/bucket",
        "s3:bucket",
        "s3:///prefix",
        "s3://AKIA:hunter2@bucket/prefix",
        "s3://AKIA:hun/ter2@bucket/prefix",
        "s3://bucket?hunter2=x&region",
        "s3://bucket?hunter/2@x",
        "webdav+https://me:hun/ter2@host/x",
        "webdav+https://host:99999/x",
        "sftp://host:/x",
        "s3://bucket/a/../b",
        "s3://bucket?regoin=eu",
        "s3://bucket?account=me",
        "s3://bucket?region=",
        "s3://bucket?region=a&region=b",
        "s3://bucket?endpoint=s3.example.org",
        "s3://bucket?part-size=1MiB",
        "s3://bucket?sse=yes",
        "s3://bucket?path-style=maybe",
    ]
    .iter()
    .map(|text| parse(text).unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!(refusals.join("\n"), @"
    has the unknown scheme `ftp`; use a directory, such as `/backups` or `file:///backups`, or a URL that begins with `s3://`, `az://`, `gs://`, `webdav+https://` or `sftp://`
    has the unknown scheme `https`; for a WebDAV server write `webdav+https://…`, for an S3 server `s3://bucket?endpoint=https://…`
    lacks the two slashes after its scheme; write `s3://`, a bucket, and a path below it
    names no place: a bucket is missing; write `s3://`, a bucket, and a path below it
    contains a name or password before an `@`; URLs show up in process lists and logs: give credentials in variables or with `credentials-file=`
    does not have a bucket after its scheme; check it, and its port where it has one; credentials go into variables or `credentials-file=`
    has an option, which s3:// does not know; there are endpoint, region, path-style, ca-file, credentials-file, sse, kms-key, storage-class, part-size
    has an option without a value; write options as `name=value`, with `&` between them
    does not have a host after its scheme; check it, and its port where it has one; credentials go into variables or `credentials-file=`
    does not have a host after its scheme; check it, and its port where it has one; credentials go into variables or `credentials-file=`
    does not have a host after its scheme; check it, and its port where it has one; credentials go into variables or `credentials-file=`
    has a path with an empty segment, `.` or `..`; name the place directly, such as `backups/hospital`
    has the option `regoin`, which s3:// does not know; did you mean `region`?
    has the option `account`, which s3:// does not know; there are endpoint, region, path-style, ca-file, credentials-file, sse, kms-key, storage-class, part-size
    has the option `region` without a value; write options as `name=value`, with `&` between them
    has the option `region` twice; remove one of them
    has an endpoint that is not the URL of a server; write it as `endpoint=https://s3.example.org`
    has a part size that cannot be used; write `part-size=5MiB` to `part-size=1024MiB`
    asks for a server-side encryption that is unknown; write `sse=AES256`, or `sse=aws:kms` with `kms-key=…` where it is not the bucket's own
    has the option `path-style` set to neither `true` nor `false`; write one of them
    ");
    for secret in ["hunter", "hun", "ter2", "AKIA"] {
        assert!(!refusals.join("\n").contains(secret), "{secret}");
    }
}
