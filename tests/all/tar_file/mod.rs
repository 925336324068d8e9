//! Tar archives as the tests need them: ustar, GNU's long names, pax entries.

/// One header block.
pub fn header(name: &[u8], size: usize, kind: u8) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    header[136..147].copy_from_slice(b"00000000000");
    header[148..156].fill(b' ');
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

/// A member of any kind, padded.
pub fn member(name: &[u8], bytes: &[u8], kind: u8) -> Vec<u8> {
    let mut member = header(name, bytes.len(), kind);
    member.extend(bytes);
    member.resize(member.len().next_multiple_of(512), 0);
    member
}

/// An archive of files; names above 100 bytes in GNU's form.
pub fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, bytes) in files {
        if name.len() > 100 {
            archive.extend(member(b"././@LongLink", &[name.as_bytes(), b"\0"].concat(), b'L'));
        }
        archive.extend(member(name.as_bytes(), bytes, b'0'));
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}
