//! Local files: payloads and receipts.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    path::Path,
};

use counterfoil_files::{FileError, Readers, create_directory, read_up_to, replace};
use rustix::fs::{Access, access};

use crate::{failure::Failure, output};

/// Reads a file, or standard input for `-`, of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let read = if path == Path::new("-") {
        let mut bytes = Vec::new();
        let mut stdin = io::stdin().lock().take(limit as u64 + 1);
        stdin.read_to_end(&mut bytes).map(|_| bytes)
    } else {
        read_up_to(path, limit)
    };
    let bytes = read.map_err(FileError::at("read", path))?;
    if bytes.len() > limit {
        return Err(Failure::usage(format!(
            "{} is longer than {limit} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}

/// Writes a file as a whole or not at all; or to standard output for `-`. What is there and is no regular file, such as a
/// pipe, a device or a symbolic link, stays: it is written to, as a shell would.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if path == Path::new("-") {
        let mut stdout = io::stdout().lock();
        // What is behind the last line break would else be written at the end of the process, and its failure passed over.
        return output::written(stdout.write_all(bytes).and_then(|()| stdout.flush()));
    }
    if stays(path) {
        let written = File::create(path).and_then(|mut file| file.write_all(bytes));
        return Ok(written.map_err(FileError::at("write", path))?);
    }
    Ok(replace(path, bytes, Readers::Umask)?)
}

/// Writes a receipt as [`write()`] does; to standard output if [`check_lines`] lets it.
pub(crate) fn write_receipt(path: &Path, receipt: &str) -> Result<(), Failure> {
    if path == Path::new("-") {
        check_lines(receipt)?;
    }
    write(path, receipt.as_bytes())
}

/// Refuses a receipt that is to go to standard output as it is, and has lines that are more than text to who reads there. The log
/// signs what stands in one, and anybody may have added to the rest.
pub(crate) fn check_lines(receipt: &str) -> Result<(), Failure> {
    if output::is_text(receipt) {
        return Ok(());
    }
    let problem = "the receipt has a line that a terminal or a CI runner may take for a command";
    Err(Failure::untrusted(problem)
        .hint("an honest log writes none; name a file for it, and don't print that"))
}

/// Whether something is there that must not be replaced by a file.
fn stays(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| !found.is_file())
}

/// Checks that there is a place for a file, before it is known what the file is to hold. Writes nothing.
pub(crate) fn check_place(path: &Path) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Ok(());
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let checked = match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(FileError::at("write", path)(ErrorKind::IsADirectory.into())),
        Ok(_) if stays(path) => access(path, Access::WRITE_OK)
            .map_err(io::Error::from)
            .map_err(FileError::at("write", path)),
        _ => check_directory(directory),
    };
    Ok(checked?)
}

/// Makes a directory, unless it is there, and checks that files can be made in it.
pub(crate) fn prepare_directory(path: &Path) -> Result<(), FileError> {
    create_directory(path)?;
    check_directory(path)
}

fn check_directory(path: &Path) -> Result<(), FileError> {
    // The dot has a file told from a directory.
    access(path.join("."), Access::WRITE_OK | Access::EXEC_OK)
        .map_err(io::Error::from)
        .map_err(FileError::at("write in", path))
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{FileTypeExt, symlink},
        thread,
    };

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn pipes_and_links_are_written_to_and_stay() {
        let scratch = tempfile::tempdir().unwrap();
        let pipe = scratch.path().join("pipe");
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        check_place(&pipe).unwrap();
        let reader = thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write(&pipe, b"payload").unwrap();
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
        assert_eq!(reader.join().unwrap(), b"payload");

        let (file, link) = (scratch.path().join("file"), scratch.path().join("link"));
        fs::write(&file, "longer than what comes").unwrap();
        symlink(&file, &link).unwrap();
        write(&link, b"payload").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"payload");
    }

    #[test]
    fn a_place_is_checked_and_nothing_is_left_there() {
        let scratch = tempfile::tempdir().unwrap();
        check_place(&scratch.path().join("new")).unwrap();
        check_place(Path::new("-")).unwrap();
        let file = scratch.path().join("file");
        fs::write(&file, "").unwrap();
        for bad in [
            scratch.path().join("none/f"),
            file.join("f"),
            scratch.path().to_owned(),
        ] {
            assert!(check_place(&bad).is_err(), "{}", bad.display());
        }
        prepare_directory(&scratch.path().join("a/b")).unwrap();
        assert!(prepare_directory(&file).is_err());
        let mut left: Vec<_> = fs::read_dir(scratch.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["a", "file"]);
    }
}
