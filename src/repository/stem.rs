//! Names of files without their endings.

use crate::pipe::Digester;

/// Longer stems are cut, so that no name passes the 255 bytes that file systems allow.
const LONGEST_STEM: usize = 200;

/// So that with an ending it is a good name of a file. A cut stem ends in `~` and a digest of the whole. A `~` cannot stand in any other.
pub fn shortened(stem: String) -> String {
    if stem.len() <= LONGEST_STEM {
        return stem;
    }
    let mut digester = Digester::default();
    digester.update(stem.as_bytes());
    let digest = digester.finish().sha256;
    // Encoded names are ASCII, so every place is the border of a character, but it may be inside an escape.
    let kept = &stem[..LONGEST_STEM - 17];
    let kept = match kept.rfind('%') {
        Some(escape) if escape + 3 > kept.len() => &kept[..escape],
        _ => kept,
    };
    format!("{kept}~{}", &digest[..16])
}
