//! Whatever the writer can say, the reader understands.

use std::io::Write;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::tree::writer::ArchiveWriter;

fn name() -> impl Strategy<Value = Vec<u8>> {
    let any_byte = vec(
        any::<u8>().prop_filter("not in a name", |byte| !matches!(byte, 0 | b'/')),
        1..260,
    );
    let ascii = "[a-z]{1,120}".prop_map(String::into_bytes);
    prop_oneof![any_byte, ascii].prop_filter("special", |name| name != b"." && name != b"..")
}

fn path() -> impl Strategy<Value = TreePath> {
    vec(name(), 1..5).prop_map(|names| {
        names
            .iter()
            .fold(TreePath::root(), |path, name| path.join(name))
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    let number = 0u32..2_097_152;
    prop_oneof![
        (0u64..3000).prop_map(|size| Kind::File {
            size,
            extents: None
        }),
        vec((1u64..100_000, 1u64..2000), 0..40).prop_flat_map(|pieces| {
            (Just(pieces), 0u64..1 << 40).prop_map(|(pieces, tail)| {
                let mut at = 0;
                let extents: Vec<Extent> = pieces
                    .into_iter()
                    .map(|(gap, length)| {
                        let extent = Extent {
                            offset: at + gap,
                            length,
                        };
                        at += gap + length;
                        extent
                    })
                    .collect();
                Kind::File {
                    size: at + tail,
                    extents: Some(extents),
                }
            })
        }),
        Just(Kind::Directory),
        vec(1u8.., 1..300).prop_map(|target| Kind::Symlink { target }),
        path().prop_map(|to| Kind::HardLink { to }),
        Just(Kind::Fifo),
        (number.clone(), number.clone())
            .prop_map(|(major, minor)| Kind::CharacterDevice { major, minor }),
        (number.clone(), number).prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
    ]
}

fn attribute() -> impl Strategy<Value = Attribute> {
    (vec(1u8.., 1..30), vec(any::<u8>(), 0..200)).prop_map(|(name, value)| Attribute {
        name: [b"user.".as_slice(), &name].concat(),
        value,
    })
}

fn metadata() -> impl Strategy<Value = Metadata> {
    (
        0u32..0o10000,
        any::<u32>(),
        any::<u32>(),
        (-10_000_000_000i64..100_000_000_000, 0u32..1_000_000_000),
        vec(attribute(), 0..4),
    )
        .prop_map(|(mode, uid, gid, (seconds, nanoseconds), mut attributes)| {
            attributes.sort_by(|left, right| left.name.cmp(&right.name));
            attributes.dedup_by(|left, right| left.name == right.name);
            Metadata {
                mode,
                uid,
                gid,
                modified: Time {
                    seconds,
                    nanoseconds,
                },
                attributes,
            }
        })
}

fn entry() -> impl Strategy<Value = Entry> {
    (path(), kind(), metadata()).prop_map(|(path, kind, mut metadata)| {
        if let Kind::HardLink { .. } = kind {
            // Another name of a file says nothing more about it than the first one did.
            metadata.attributes.clear();
            metadata.modified = Time {
                seconds: metadata.modified.seconds.clamp(0, 1 << 32),
                nanoseconds: 0,
            };
        }
        Entry {
            path,
            kind,
            metadata,
        }
    })
}

fn content_of(entry: &Entry) -> Vec<u8> {
    let length = entry.kind.stored_size() as usize;
    (0..length).map(|at| at as u8).collect()
}

proptest! {
    #[test]
    fn entries_survive_an_archive(entries in vec(entry(), 0..6)) {
        let mut writer = ArchiveWriter::new(Vec::new());
        for entry in &entries {
            writer.entry(entry).unwrap();
            writer.content(&content_of(entry)).unwrap();
            prop_assert_eq!(writer.end_content().unwrap(), 0);
        }
        let archive = writer.finish().unwrap();
        prop_assert_eq!(archive.len() % BLOCK, 0);

        let mut reader = ArchiveReader::new(archive.as_slice());
        for entry in &entries {
            let read = reader.next_entry().unwrap().unwrap();
            prop_assert_eq!(&read, entry);
            let mut content = vec![0; entry.kind.stored_size() as usize];
            reader.read_content_exact(&mut content).unwrap();
            prop_assert_eq!(content, content_of(entry));
        }
        prop_assert_eq!(reader.next_entry().unwrap(), None);
    }

    #[test]
    fn rubbish_is_an_error_and_never_a_panic(bytes in vec(any::<u8>(), 0..4000)) {
        let mut reader = ArchiveReader::new(bytes.as_slice());
        while let Ok(Some(_)) = reader.next_entry() {}
    }

    #[test]
    fn a_flipped_byte_is_an_error_or_another_archive(at in 0usize..5000, bit in 0u8..8) {
        let mut writer = ArchiveWriter::new(Vec::new());
        for size in [0u64, 700, 3] {
            let entry = Entry {
                path: TreePath::root().join(&vec![b'n'; 90 + size as usize / 10]),
                kind: Kind::File { size, extents: Some(Vec::new()) },
                metadata: Metadata { modified: Time { seconds: 1, nanoseconds: 5 }, ..Metadata::default() },
            };
            writer.entry(&entry).unwrap();
            writer.end_content().unwrap();
        }
        let mut archive = writer.finish().unwrap();
        let at = at % archive.len();
        archive[at] ^= 1 << bit;
        let mut reader = ArchiveReader::new(archive.as_slice());
        while let Ok(Some(_)) = reader.next_entry() {}
    }
}

/// Content that stops and starts, as a network has it.
struct Dribble<'a>(&'a [u8]);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.0.len().min(buffer.len()).min(7);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn small_reads_are_put_together() {
    let mut writer = ArchiveWriter::new(Vec::new());
    let entry = Entry {
        path: TreePath::root().join(b"file"),
        kind: Kind::File {
            size: 5000,
            extents: None,
        },
        metadata: Metadata::default(),
    };
    writer.entry(&entry).unwrap();
    writer.content(&content_of(&entry)).unwrap();
    writer.end_content().unwrap();
    let mut archive = writer.finish().unwrap();
    archive.flush().unwrap();
    let mut reader = ArchiveReader::new(Dribble(&archive));
    assert_eq!(reader.next_entry().unwrap().unwrap(), entry);
    let mut content = vec![0; 5000];
    reader.read_content_exact(&mut content).unwrap();
    assert_eq!(content, content_of(&entry));
    assert_eq!(reader.next_entry().unwrap(), None);
}
