//! Files that commands write: the whole of it stands under the name, or what stood there before.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use super::{Failure, terminal};

/// Refuses an output that can't be written before there is anything to write; none is standard output.
pub(super) fn check(output: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = output else { return Ok(()) };
    can_be_made(path).map_err(|error| unwritable(path, &error))
}

/// Writes the whole output.
pub(super) fn write(output: Option<&Path>, bytes: &[u8]) -> Result<(), Failure> {
    let Some(path) = output else {
        terminal::print(&String::from_utf8_lossy(bytes));
        return Ok(());
    };
    replace(path, bytes).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let message = format!("can't write {}: {error}", path.display());
    Failure::new("report_unwritable", message)
}

/// Makes a file in the folder of another one that is to be written, and removes it again.
pub(super) fn can_be_made(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let Some(path) = replaced(path) else { return Ok(()) };
    match partial(&path) {
        Ok((partial, _)) => fs::remove_file(partial),
        // Then it is filled where it stands.
        Err(_) if path.is_file() => File::options().append(true).open(&path).map(drop),
        Err(error) => Err(error),
    }
}

/// Fills a file beside the other one and gives it that one's name: an interrupt leaves no half of it there. A file that
/// no other can take the place of, as one that is mounted by itself or lies in a folder of others, is filled.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(path) = replaced(path) else { return fs::write(path, bytes) };
    let (partial, file) = match partial(&path) {
        Err(error) if path.is_file() && has_room(&error) => return fs::write(&path, bytes),
        made => made?,
    };
    // What finds no room beside the one before finds none in its place, which would be empty by then.
    let done = filled(file, bytes).and_then(|()| match take_place(&partial, &path) {
        Err(error) if path.is_file() && has_room(&error) => fs::write(&path, bytes),
        taken => taken,
    });
    // Where it has that name already, nothing is there.
    drop(fs::remove_file(&partial));
    done
}

/// Whether something else is wrong than that nothing more fits there.
fn has_room(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Gives a file the name of another one, and its owner and permissions. Refused where it can't have that owner, and the
/// other one can be filled.
fn take_place(partial: &Path, path: &Path) -> io::Result<()> {
    if let Ok(before) = fs::metadata(path) {
        let ours = fs::metadata(partial)?;
        let is_same = (before.uid(), before.gid()) == (ours.uid(), ours.gid());
        if !is_same
            && let Err(error) = chown(partial, Some(before.uid()), Some(before.gid()))
            && File::options().append(true).open(path).is_ok()
        {
            return Err(error);
        }
        fs::set_permissions(partial, before.permissions())?;
    }
    fs::rename(partial, path)
}

/// The file whose place another one takes: where the path is a link, what it leads to. None where something else than
/// a file stands there, such as a pipe, which is written to as it is.
fn replaced(path: &Path) -> Option<PathBuf> {
    let is_other = fs::metadata(path).is_ok_and(|about| !about.is_file());
    // What stands in `/dev` may lead to a file that somebody else has opened; only files of its own are in `/dev/shm`.
    let is_device = path.starts_with("/dev") && !path.starts_with("/dev/shm");
    let stays = is_other || is_device;
    (!stays).then(|| path.canonicalize().unwrap_or_else(|_| path.to_owned()))
}

/// A new file beside the other one: what others have there stays as it is.
pub(super) fn partial(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut number = 1;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}.partial"));
        match File::create_new(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            created => return created.map(|file| (name.into(), file)),
        }
    }
}

/// Writes all of it, down to the disk.
pub(super) fn filled(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};

    use nix::sys::stat::Mode;
    use tempfile::TempDir;

    use super::*;

    fn names(folder: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_takes_the_place_of_the_one_before_it_as_a_whole() {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a.html"), "before, and longer").unwrap();
        fs::set_permissions(at("a.html"), fs::Permissions::from_mode(0o640)).unwrap();
        // Whoever writes into the file itself would write into this one too.
        fs::hard_link(at("a.html"), at("same.html")).unwrap();
        fs::write(at("a.html.1.partial"), "mine").unwrap();
        write(Some(&at("a.html")), b"after").unwrap();
        assert_eq!(fs::read_to_string(at("a.html")).unwrap(), "after");
        assert_eq!(fs::read_to_string(at("same.html")).unwrap(), "before, and longer");
        assert_eq!(fs::metadata(at("a.html")).unwrap().permissions().mode() & 0o777, 0o640);
        write(Some(&at("new.md")), b"new").unwrap();
        assert_eq!(fs::read_to_string(at("new.md")).unwrap(), "new");
        assert_eq!(names(&folder), ["a.html", "a.html.1.partial", "new.md", "same.html"]);
    }

    #[test]
    fn an_output_that_can_not_be_made_is_refused_and_a_look_leaves_nothing() {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        for wrong in [at("no/a.html"), folder.path().to_owned()] {
            for refused in [check(Some(&wrong)), write(Some(&wrong), b"")] {
                assert_eq!(refused.unwrap_err().code, "report_unwritable");
            }
        }
        check(Some(&at("a.html"))).unwrap();
        check(None).unwrap();
        assert_eq!(names(&folder), [""; 0]);
    }

    #[test]
    fn a_file_that_none_can_take_the_place_of_is_filled_where_it_stands() {
        let folder = TempDir::new().unwrap();
        // So long a name that one beside it would be too long.
        let path = folder.path().join("a".repeat(250));
        assert_eq!(check(Some(&path)).unwrap_err().code, "report_unwritable", "nothing is there");
        fs::write(&path, "before, and longer").unwrap();
        check(Some(&path)).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "before, and longer",
            "a look changes nothing"
        );
        write(Some(&path), b"after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_keeps_its_owner_if_it_may_be_given_away_and_else_is_filled_where_it_stands() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.html");
        fs::write(&path, "before, and longer").unwrap();
        let (uid, gid) = (4242, 4343);
        // Only root may give files away; whoever else runs this finds his own file there.
        let is_given = chown(&path, Some(uid), Some(gid)).is_ok();
        write(Some(&path), b"after").unwrap();
        let about = fs::metadata(&path).unwrap();
        assert_eq!((about.uid(), about.gid()) == (uid, gid), is_given);
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(names(&folder), ["a.html"]);
    }

    #[test]
    fn another_file_takes_the_place_of_those_in_memory_and_not_of_devices() {
        for (path, is_replaced) in [("/dev/shm/a.html", true), ("/dev/stdout", false)] {
            assert_eq!(replaced(Path::new(path)).is_some(), is_replaced, "{path}");
        }
    }

    #[test]
    fn links_and_pipes_stay_what_they_are() {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a.html"), "before").unwrap();
        symlink(at("a.html"), at("link.html")).unwrap();
        write(Some(&at("link.html")), b"after").unwrap();
        assert!(fs::symlink_metadata(at("link.html")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(at("a.html")).unwrap(), "after");

        let pipe = at("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        check(Some(&pipe)).unwrap();
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe).unwrap()
        });
        write(Some(&pipe), b"all of it").unwrap();
        // Else the reader would wait for ever.
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        assert_eq!(reader.join().unwrap(), "all of it");
    }
}
