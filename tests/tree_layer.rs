//! Files and directories in the own layer of real containers, saved and put back by the driver.

use std::process::Command;

use crate::support::trees::{Stage, facts, files_target, record, restore, with_mode};
use crate::support::{TestContainer, TestVolume, docker};
use cofferdam::driver::tree::{Placement, TreeRun};
use cofferdam::driver::{Driver, WayBack};
use cofferdam::labels::TreeRestore;
use cofferdam::manifest::{Facts, Transfer, TreeShape};
use cofferdam::tree::TreePath;

/// Everything in a tree, with what a restore has to bring back of it.
fn listed(container: &TestContainer, path: &str) -> String {
    container.sh(&format!(
        "cd {path} && find . ! -name '*\n*' -exec stat -c '%n %F %a %u:%g %h' {{}} + | sort; find . | wc -l; find . -type f -exec cat {{}} +"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archive_api_carries_a_tree_and_an_agent_removes_what_is_extra() {
    let stage = Stage::new().await;
    let container = TestContainer::idle();
    container.sh("mkdir -p /opt/app/sub /opt/app/empty /opt/other; echo 1 >/opt/app/one; ln /opt/app/one /opt/app/sub/uno; ln -s one /opt/app/link; chmod 640 /opt/app/one; chown 7:8 /opt/app/one; touch -d '2020-01-02 03:04:05' /opt/app/sub /opt/app; echo 1 >/opt/other/file");
    let target = files_target("/opt/app");
    let before = listed(&container, "/opt/app");
    let captured = stage.dump(&container, &target).await;
    assert_eq!(captured.transfer, Transfer::Archive);
    assert_eq!(facts(&captured).entries, 6);
    let [warning] = captured.warnings.as_slice() else {
        panic!("{:?}", captured.warnings);
    };
    assert!(
        warning.contains("container's own layer") && warning.contains("ACLs"),
        "{warning}"
    );

    container.sh("cd /opt/app; echo changed >one; rm sub/uno link; rmdir empty; echo extra >extra; mkdir -p sub/new/deep; echo x >sub/new/deep/x");
    // Names that a shell, a list of lines or a careless walk would stumble over.
    container.sh("cd /opt/app; touch -- '-rf' '*' 'a b' \"$(printf 'line\\nfeed')\" \"$(printf 'not-\\377-utf8')\"; ln -s /opt/other out; ln -s .. sub/up; mkfifo pipe");
    let driver = stage
        .driver(&container, &target, restore(TreeRun::default()))
        .await;
    assert_eq!(driver.way_back(&target.id), WayBack::SafetySnapshot);
    stage
        .restore(&container, &target, &captured, TreeRun::default())
        .await;
    assert_eq!(listed(&container, "/opt/app"), before);
    assert_eq!(
        container.sh("stat -c %Y /opt/app /opt/app/sub"),
        container.sh("for i in 1 2; do date -d '2020-01-02 03:04:05' +%s; done"),
        "removing must not change the saved times of directories"
    );
    assert_eq!(container.sh("cat /opt/other/file"), "1");
    assert_eq!(container.sh("ls -A /tmp /var/tmp | grep coffer; true"), "");

    container.sh("cd /opt/app; echo changed >one; rm link; echo extra >extra");
    let keep = with_mode(target.clone(), TreeRestore::KeepExisting);
    stage
        .restore(&container, &keep, &captured, TreeRun::default())
        .await;
    assert_eq!(
        container.sh("cd /opt/app; cat one link extra"),
        "changed\nchanged\nextra"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_file_comes_back_and_whatever_took_its_place_goes() {
    let stage = Stage::new().await;
    let container = TestContainer::idle();
    container.sh("mkdir -p /opt/app; echo 1 >/opt/app/one; echo 2 >/opt/app/two");
    let file = files_target("/opt/app/one");
    let captured = stage.dump(&container, &file).await;
    assert_eq!(facts(&captured).shape, TreeShape::File);
    for change in [
        "rm /opt/app/one",
        "rm /opt/app/one; mkdir -p /opt/app/one/deep; touch /opt/app/one/deep/x",
    ] {
        container.sh(change);
        stage
            .restore(&container, &file, &captured, TreeRun::default())
            .await;
        assert_eq!(container.sh("cat /opt/app/one /opt/app/two"), "1\n2");
    }

    let directory = files_target("/opt/app");
    let captured = stage.dump(&container, &directory).await;
    container.sh("rm -r /opt/app; echo file >/opt/app");
    stage
        .restore(&container, &directory, &captured, TreeRun::default())
        .await;
    assert_eq!(container.sh("cat /opt/app/one /opt/app/two"), "1\n2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_something_else_comes_back_as_what_it_was() {
    let stage = Stage::new().await;
    let container = TestContainer::idle();
    container.sh("mkdir -p /opt/app/dir/sub /opt/other; cd /opt/app; echo 1 >dir/sub/x; echo 2 >file; ln -s file link; echo 3 >plain");
    let target = files_target("/opt/app");
    let before = listed(&container, "/opt/app");
    let captured = stage.dump(&container, &target).await;
    for agent in [true, false] {
        container.sh("cd /opt/app; rm -r dir file link plain; echo now >dir; mkdir -p file/a/b link; touch file/a/b/c; ln -s /opt/other plain; touch /opt/other/x");
        if !agent {
            docker(["stop", "-t", "0", &container.id]);
        }
        stage
            .restore(&container, &target, &captured, TreeRun::default())
            .await;
        docker(["start", &container.id]);
        assert_eq!(listed(&container, "/opt/app"), before);
        assert_eq!(container.sh("ls -A /opt/other"), "x");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_agent_can_run_extras_stay_and_all_else_comes_back() {
    let stage = Stage::new().await;
    let no_place = TestContainer::idle_with(&["--tmpfs", "/tmp", "--tmpfs", "/var/tmp"]);
    let stopped = TestContainer::idle();
    for container in [&no_place, &stopped] {
        container.sh("mkdir -p /opt/app; echo 1 >/opt/app/one");
        let target = files_target("/opt/app");
        let captured = stage.dump(container, &target).await;
        container.sh("echo changed >/opt/app/one; echo extra >/opt/app/extra");
        // It runs when the driver is made, and not when it loads.
        let driver = stage
            .driver(container, &target, restore(TreeRun::default()))
            .await;
        if container.id == stopped.id {
            docker(["stop", "-t", "0", &container.id]);
        }
        let record = record(&target, &captured);
        driver.load(&record, &stage.artifacts).await.unwrap();
        if container.id == stopped.id {
            docker(["start", &container.id]);
        }
        assert_eq!(container.sh("cd /opt/app; cat one extra"), "1\nextra");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_leaves_out_is_never_removed() {
    let stage = Stage::new().await;
    let container = TestContainer::idle();
    container.sh("mkdir -p /opt/app/cache; touch /opt/app/cache/x; echo 1 >/opt/app/one");
    let mut target = files_target("/opt/app");
    target.options.exclude = vec!["cache/".to_owned(), "*.log".to_owned()];
    let captured = stage.dump(&container, &target).await;
    assert_eq!(facts(&captured).entries, 2);
    container.sh("cd /opt/app; mkdir new; touch new/a.log new/extra cache/y extra");
    stage
        .restore(&container, &target, &captured, TreeRun::default())
        .await;
    assert_eq!(
        container.sh("cd /opt/app; find . | sort"),
        ".\n./cache\n./cache/x\n./cache/y\n./new\n./new/a.log\n./one"
    );

    // Nor does it go with a directory that was a file: nothing is restored then, and nothing touched.
    container.sh("cd /opt/app; rm one; mkdir one; touch one/b.log one/extra");
    let error = stage.load_error(&container, &target, &captured).await;
    assert!(
        error.contains("app/one is not a directory in the snapshot"),
        "{error}"
    );
    assert_eq!(container.sh("ls /opt/app/one"), "b.log\nextra");

    // What was saved before a pattern left it out comes back only where nothing is.
    container.sh("cd /opt/app; rm -r one; echo 1 >one; echo older >cache/older");
    target.options.exclude = Vec::new();
    let older = stage.dump(&container, &target).await;
    container.sh("cd /opt/app; rm cache/older; echo now >cache/x");
    for mode in [TreeRestore::Replace, TreeRestore::Overlay] {
        target.options.exclude = vec!["cache/".to_owned()];
        let target = with_mode(target.clone(), mode);
        stage
            .restore(&container, &target, &older, TreeRun::default())
            .await;
        assert_eq!(container.sh("cd /opt/app/cache; cat older x"), "older\nnow");
    }
}

/// The engine would write through links, and fill holes until its disk is full.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_not_sound_is_refused_before_anything_is_touched() {
    let stage = Stage::new().await;
    let container = TestContainer::idle();
    container.sh("mkdir -p /opt/app /outside; echo old >/opt/app/word");
    let target = files_target("/opt/app");
    let captured = stage.dump(&container, &target).await;
    let forge = tempfile::tempdir().unwrap();
    for (script, entries, bytes, words) in [
        (
            "mkdir s; echo evil >s/pwn; tar cf t --no-recursion . word s; rm -r s; ln -s /outside s; tar rf t s; mkdir d; echo evil >d/pwn; tar rf t --transform s,^d,s, d/pwn",
            5,
            9,
            "twice",
        ),
        (
            "ln -s /outside s; mkdir d; echo evil >d/pwn; tar cf t --no-recursion . word s; tar rf t --transform s,^d,s, d/pwn",
            4,
            9,
            "writes through s",
        ),
        (
            "tar cf t --no-recursion . word; tar rf t word",
            3,
            8,
            "names word twice",
        ),
        (
            "truncate -s 4P big 2>/dev/null || truncate -s 15T big; tar cSf t --no-recursion . word big",
            3,
            0,
            "not enough room",
        ),
        ("tar cf t --no-recursion . word", 9, 4, "9 with"),
    ] {
        let output = Command::new("sh")
            .current_dir(forge.path())
            .args(["-c", &format!("rm -rf ./*; echo new >word; {script}")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        let size = std::fs::metadata(forge.path().join("big")).map_or(0, |big| big.len() + 4);
        let mut forged = captured.clone();
        stage.forge(&mut forged, &std::fs::read(forge.path().join("t")).unwrap());
        let mut of_tree = facts(&forged);
        (of_tree.entries, of_tree.content_bytes) = (entries, bytes.max(size));
        forged.facts = Facts::Files(of_tree);
        let error = stage.load_error(&container, &target, &forged).await;
        assert!(error.contains(words), "{words}: {error}");
        assert_eq!(
            container.sh("cat /opt/app/word; ls -A /opt/app /outside"),
            "old\n/opt/app:\nword\n\n/outside:"
        );
    }

    // A link that is there now is not followed to what was chosen.
    container.sh("mkdir /opt/app/d; echo saved >/opt/app/d/x");
    let captured = stage.dump(&container, &target).await;
    container.sh("cd /opt/app; rm -r d; ln -s /outside d");
    let run = TreeRun {
        paths: vec![TreePath::parse(b"d/x").unwrap()],
        ..TreeRun::default()
    };
    let driver = stage.driver(&container, &target, restore(run)).await;
    let refused = driver
        .load(&record(&target, &captured), &stage.artifacts)
        .await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("is not a directory now")
    );
    assert_eq!(container.sh("ls -A /outside"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_below_is_neither_saved_nor_touched() {
    let stage = Stage::new().await;
    let volume = TestVolume::create(&[]);
    let bare = TestContainer::idle();
    let mount = format!("{}:/opt/app/old/data", volume.name);
    let container = TestContainer::idle_with(&["-v", &mount, "--tmpfs", "/opt/app/run"]);
    container.sh("echo v >/opt/app/old/data/v; echo t >/opt/app/run/t; echo 1 >/opt/app/one");
    let target = files_target("/opt/app");
    let captured = stage.dump(&container, &target).await;
    let told = |path: &str| {
        format!("{path}: something else is mounted there, which is not part of this target")
    };
    assert_eq!(
        captured.warnings[..2],
        [told("/opt/app/old/data"), told("/opt/app/run")]
    );
    // The root, `old`, the two mount points and a file.
    assert_eq!(facts(&captured).entries, 5);

    container.sh("echo new >/opt/app/old/data/v; echo extra >/opt/app/old/data/extra; echo e >/opt/app/extra; echo e >/opt/app/run/e; chmod 700 /opt/app/old/data");
    stage
        .restore(&container, &target, &captured, TreeRun::default())
        .await;
    let untouched = "cd /opt/app; cat old/data/v old/data/extra run/t run/e; stat -c %a old/data";
    assert_eq!(container.sh(untouched), "new\nextra\nt\ne\n700");
    assert_eq!(
        container.sh("cd /opt/app; ls -A; cat one"),
        "old\none\nrun\n1"
    );

    // Where the volume's directory was extra, or something else was saved in its place, it stays all the same.
    for saved in ["mkdir /opt/app", "mkdir /opt/app; echo file >/opt/app/old"] {
        bare.sh(&format!("rm -rf /opt/app; mkdir -p /opt; {saved}"));
        let captured = stage.dump(&bare, &target).await;
        for mode in [TreeRestore::Replace, TreeRestore::Overlay] {
            let target = with_mode(target.clone(), mode);
            stage
                .restore(&container, &target, &captured, TreeRun::default())
                .await;
            assert_eq!(container.sh(untouched), "new\nextra\nt\ne\n700", "{saved}");
        }
    }

    // An archive that holds such content, saved where nothing was mounted, does not write into the mount.
    bare.sh("rm -r /opt/app; mkdir -p /opt/app/old/data; echo of-the-layer >/opt/app/old/data/v; echo 2 >/opt/app/one");
    let captured = stage.dump(&bare, &target).await;
    assert_eq!(facts(&captured).entries, 5);
    stage
        .restore(&container, &target, &captured, TreeRun::default())
        .await;
    assert_eq!(container.sh(untouched), "new\nextra\nt\ne\n700");
    assert_eq!(container.sh("cat /opt/app/one"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_the_engine_makes_are_refused_and_left_out_of_their_directory() {
    let stage = Stage::new().await;
    let host = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(host.path(), "127.0.0.1 own\n").unwrap();
    let own = format!("{}:/etc/hosts", host.path().display());
    let container = TestContainer::idle();
    let with_own = TestContainer::idle_with(&["-v", &own]);
    container.sh("ln -s /etc/resolv.conf /dns");
    for (path, setting) in [
        ("/etc/hostname", "hostname"),
        ("/etc/hosts", "extra_hosts"),
        ("/dns", "dns"),
    ] {
        let target = files_target(path);
        let error = stage.dump_error(&container, &target).await;
        assert!(
            error.contains("the engine creates it") && error.contains(&format!("`{setting}`")),
            "{error}"
        );
        let driver = stage
            .driver(&container, &target, restore(TreeRun::default()))
            .await;
        assert!(driver.refusal(&target.id).is_some());
    }

    let target = files_target("/etc/hosts");
    let captured = stage.dump(&with_own, &target).await;
    std::fs::write(host.path(), "changed").unwrap();
    stage
        .restore(&with_own, &target, &captured, TreeRun::default())
        .await;
    assert_eq!(with_own.sh("cat /etc/hosts"), "127.0.0.1 own");

    let target = files_target("/etc");
    container.sh("mkdir /etc/app; echo 1 >/etc/app/conf");
    let before = container.sh("find /etc | sort; cat /etc/hosts");
    let captured = stage.dump(&container, &target).await;
    assert!(captured.warnings[0].starts_with("/etc/hostname: something else"));
    assert_eq!(captured.warnings.len(), 4, "{:?}", captured.warnings);
    container.sh("rm -r /etc/app; touch /etc/extra");
    stage
        .restore(&container, &target, &captured, TreeRun::default())
        .await;
    assert_eq!(container.sh("find /etc | sort; cat /etc/hosts"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_paths_come_back_exactly_and_nothing_else_is_touched() {
    let stage = Stage::new().await;
    let container = TestContainer::idle();
    container.sh("mkdir -p /opt/app/a /opt/app/b; echo 1 >/opt/app/a/x; echo 1 >/opt/app/b/x");
    let target = files_target("/opt/app");
    let captured = stage.dump(&container, &target).await;
    let changed = "cd /opt/app; echo 2 >a/x; echo 2 >b/x; echo e >a/extra; echo e >b/extra";
    container.sh(changed);
    let only = |path: &str| TreeRun {
        paths: vec![TreePath::parse(path.as_bytes()).unwrap()],
        ..TreeRun::default()
    };
    stage
        .restore(&container, &target, &captured, only("a"))
        .await;
    assert_eq!(
        container.sh("cd /opt/app; grep -r . . | sort"),
        "./a/x:1\n./b/extra:e\n./b/x:2"
    );
    // What the snapshot does not hold is not taken for something that has to go.
    let driver = stage
        .driver(&container, &target, restore(only("b/extra")))
        .await;
    let error = driver
        .load(&record(&target, &captured), &stage.artifacts)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("b/extra is not in the archive"));
    assert_eq!(container.sh("cat /opt/app/b/extra"), "e");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_removes_what_a_load_added_whatever_its_mode() {
    let stage = Stage::new().await;
    let container = TestContainer::idle();
    container.sh("mkdir -p /opt/app/a; echo 1 >/opt/app/a/saved; echo 1 >/opt/app/both");
    let target = files_target("/opt/app");
    let captured = stage.dump(&container, &target).await;
    container.sh("cd /opt/app; rm -r a; echo now >both; echo now >new");
    let before = listed(&container, "/opt/app");
    let safety = stage.dump(&container, &target).await;
    for mode in [
        TreeRestore::Replace,
        TreeRestore::Overlay,
        TreeRestore::KeepExisting,
    ] {
        for paths in [Vec::new(), vec![TreePath::parse(b"a").unwrap()]] {
            let target = with_mode(target.clone(), mode);
            let run = TreeRun {
                paths,
                placement: Placement::Beside,
                ..TreeRun::default()
            };
            let driver = stage.driver(&container, &target, restore(run)).await;
            driver
                .load(&record(&target, &captured), &stage.artifacts)
                .await
                .unwrap();
            assert_eq!(container.sh("cat /opt/app/a/saved"), "1");
            driver
                .put_back(&record(&target, &safety), &stage.artifacts)
                .await
                .unwrap();
            assert_eq!(listed(&container, "/opt/app"), before, "{mode:?}");
        }
    }
}

/// What a label names is what its links lead to; the links themselves stay as they are.
#[tokio::test(flavor = "multi_thread")]
async fn links_on_the_way_are_followed_and_stay() {
    let stage = Stage::new().await;
    let container = TestContainer::idle();
    container.sh("mkdir -p /opt/releases/7/conf; cd /opt; ln -s releases/7 current; echo saved >current/conf/a; ln -s ../opt/current/conf /etc/app; ln -s /opt/current/conf/a /srv-a");
    for (path, shape, expected) in [
        ("/etc/app", TreeShape::Directory, "/opt/releases/7/conf"),
        (
            "/opt/current/conf/a",
            TreeShape::File,
            "/opt/releases/7/conf/a",
        ),
        ("/srv-a", TreeShape::File, "/opt/releases/7/conf/a"),
    ] {
        let target = files_target(path);
        let captured = stage.dump(&container, &target).await;
        let found = facts(&captured);
        assert_eq!(
            (found.shape, found.path.as_str()),
            (shape, expected),
            "{path}"
        );
        container.sh("echo now >/opt/current/conf/a");
        stage
            .restore(&container, &target, &captured, TreeRun::default())
            .await;
        assert_eq!(
            container.sh(
                "for link in /opt/current /etc/app /srv-a; do readlink $link; done; cat /srv-a"
            ),
            "releases/7\n../opt/current/conf\n/opt/current/conf/a\nsaved",
            "{path}"
        );
    }
}

/// A program in a container may mount something there that the engine knows nothing of.
#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_the_engine_does_not_see_is_not_entered() {
    let stage = Stage::new().await;
    let container = TestContainer::idle_with(&[
        "--cap-add",
        "SYS_ADMIN",
        "--security-opt",
        "apparmor=unconfined",
    ]);
    container.sh("mkdir -p /opt/app; echo 1 >/opt/app/one");
    let target = files_target("/opt/app");
    let captured = stage.dump(&container, &target).await;
    container.sh("mkdir /opt/app/sub; echo below >/opt/app/sub/x; mount -t tmpfs none /opt/app/sub; echo above >/opt/app/sub/x; echo e >/opt/app/extra");
    stage
        .restore(&container, &target, &captured, TreeRun::default())
        .await;
    assert_eq!(
        container.sh("cd /opt/app; ls; cat sub/x; umount sub; cat sub/x"),
        "one\nsub\nabove\nbelow"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_system_does_not_let_go_stays_and_does_not_fail_the_restore() {
    let stage = Stage::new().await;
    let bare = TestContainer::idle();
    bare.sh("mkdir -p /var/app/others; echo 1 >/var/app/one; chown 7:8 /var/app/others");
    let target = files_target("/var/app");
    let captured = stage.dump(&bare, &target).await;
    bare.sh("touch /var/app/others/extra /var/app/extra");
    let with_extras = stage.dump(&bare, &target).await;

    // Its root may not write into the directories of others.
    let container = TestContainer::idle_with(&["--cap-drop", "ALL"]);
    for captured in [with_extras, captured] {
        stage
            .restore(&container, &target, &captured, TreeRun::default())
            .await;
    }
    assert_eq!(
        container.sh("cd /var/app; ls; ls others"),
        "one\nothers\nextra"
    );
    let left = container.sh("ls -A /tmp /var/tmp | grep coffer || true");
    assert_eq!(left, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_removal_takes_nothing_of_what_is_put_back_after_it() {
    let stage = Stage::new().await;
    let container = TestContainer::idle();
    container.sh("mkdir -p /opt/app; echo 1 >/opt/app/one");
    let target = files_target("/opt/app");
    let captured = stage.dump(&container, &target).await;
    container.sh("cd /opt/app; seq 1 3000 | xargs touch");
    let safety = stage.dump(&container, &target).await;
    let record_of_old = record(&target, &captured);
    let driver = stage
        .driver(&container, &target, restore(TreeRun::default()))
        .await;
    // Names go backwards.
    let mut first_to_go = Command::new("docker")
        .args(["exec", &container.id, "sh", "-c"])
        .arg("while [ -e /opt/app/999 ]; do :; done")
        .spawn()
        .unwrap();
    let first_gone = tokio::task::spawn_blocking(move || first_to_go.wait());
    tokio::select! {
        _ = driver.load(&record_of_old, &stage.artifacts) => panic!("it was over too soon"),
        _ = first_gone => {}
    }
    driver
        .put_back(&record(&target, &safety), &stage.artifacts)
        .await
        .unwrap();
    assert_eq!(container.sh("ls /opt/app | wc -l"), "3001");
    let left = container.sh("ls -A /tmp /var/tmp | grep coffer || true");
    assert_eq!(left, "");
}
