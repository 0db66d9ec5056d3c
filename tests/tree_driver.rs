//! Volumes and files of real containers, saved and restored by the driver.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::odd_tree::{assert_same, describe};
use crate::support::trees::{
    Stage, facts, files_target, mountpoint, record, restore, volume_target, with_mode, with_volume,
};
use crate::support::{TestContainer, TestImage, TestVolume, busybox_image, docker, unique};
use cofferdam::agent::helper::{HELPER_LABEL, HELPER_PROJECT_LABEL, sweep};
use cofferdam::driver::tree::{Placement, TreeRun};
use cofferdam::driver::{Driver, WayBack};
use cofferdam::engine::ours::{HELPER_NAME, TRIAL_NAME};
use cofferdam::labels::TreeRestore;
use cofferdam::manifest::{Role, Transfer, TreeShape};
use cofferdam::snapshot::read_indexes;
use cofferdam::target::RunId;
use cofferdam::tree::{IndexKind, TreePath};
use jiff::Timestamp;

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_with_every_oddity_comes_back() {
    let stage = Stage::new().await;
    let volume = TestVolume::create(&[]);
    let root = mountpoint(&volume);
    crate::support::odd_tree::build(&root);
    let before = describe(&root);
    let container = with_volume(&volume, "/data");
    let target = volume_target(&volume, "/data");

    let captured = stage.dump(&container, &target).await;
    assert_eq!(captured.warnings, Vec::<String>::new());
    assert_eq!(captured.transfer, Transfer::Helper);
    assert_eq!(facts(&captured).entries, before.len() as u64);
    let roles: Vec<Role> = captured
        .artifacts
        .iter()
        .map(|artifact| artifact.role)
        .collect();
    assert_eq!(roles, [Role::Layer, Role::Index]);

    // It need not run.
    docker(["stop", "-t", "0", &container.id]);
    container_files_are_ruined(&root);
    stage
        .restore(&container, &target, &captured, TreeRun::default())
        .await;
    assert_same(&before, &describe(&root));
    assert_eq!(stage.helpers_left(), "");

    container_files_are_ruined(&root);
    let in_place = TreeRun {
        placement: Placement::InPlace,
        ..TreeRun::default()
    };
    stage
        .restore(&container, &target, &captured, in_place)
        .await;
    assert_same(&before, &describe(&root));
}

fn container_files_are_ruined(root: &Path) {
    fs::remove_file(root.join("plain")).unwrap();
    fs::write(root.join("extra"), "extra").unwrap();
    fs::write(root.join("deep/er/extra"), "extra").unwrap();
    fs::write(root.join("attributes"), "other").unwrap();
    fs::remove_dir_all(root.join("long")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_read_by_standard_tools_and_listed_by_the_index() {
    let stage = Stage::new().await;
    let volume = TestVolume::create(&[]);
    let container = with_volume(&volume, "/data");
    container.sh("mkdir -p /data/a/b /data/cache && echo hello >/data/a/b/c && touch /data/x.log /data/cache/y");
    let mut target = volume_target(&volume, "/data");
    target.options.exclude = vec!["*.log".to_owned(), "/cache/".to_owned()];
    let captured = stage.dump(&container, &target).await;
    let [layer, _] = captured.artifacts.as_slice() else {
        panic!("{captured:?}");
    };

    let tar = std::process::Command::new("sh")
        .args([
            "-c",
            "zstd -dc \"$0\" | tar -t",
            stage.artifacts.path_of(layer).to_str().unwrap(),
        ])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&tar.stdout),
        "./\n./a/\n./a/b/\n./a/b/c\n"
    );

    let mut listed = Vec::new();
    let record = record(&target, &captured);
    read_indexes(&stage.artifacts, &record, |entry| listed.push(entry))
        .await
        .unwrap();
    listed.retain(|entry| entry.kind == IndexKind::File);
    let names: Vec<String> = listed.iter().map(|entry| entry.path.encode()).collect();
    assert_eq!(names, ["a/b/c"]);
    assert_eq!(listed[0].size, 6);
    assert_eq!(facts(&captured).exclude, target.options.exclude);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_undone_by_whoever_comes_next() {
    let stage = Stage::new().await;
    let volume = TestVolume::create(&[]);
    let container = with_volume(&volume, "/data");
    container.sh("echo old >/data/file && mkdir /data/dir && echo x >/data/dir/y");
    let target = volume_target(&volume, "/data");
    let captured = stage.dump(&container, &target).await;
    container.sh("echo new >/data/file; rm -r /data/dir; echo e >/data/extra");
    let before = describe(&mountpoint(&volume));

    let run = RunId::generate(Timestamp::now());
    let driver = stage
        .driver_of(&run, &container, &target, restore(TreeRun::default()))
        .await;
    assert_eq!(driver.way_back(&target.id), WayBack::Staged);
    driver
        .load(&record(&target, &captured), &stage.artifacts)
        .await
        .unwrap();
    drop(driver);
    assert_eq!(container.sh("cat /data/file"), "new");

    let other = stage
        .driver_of(&run, &container, &target, restore(TreeRun::default()))
        .await;
    other.rollback(&target.id).await.unwrap();
    assert_same(&before, &describe(&mountpoint(&volume)));
    other.rollback(&target.id).await.unwrap();

    other
        .load(&record(&target, &captured), &stage.artifacts)
        .await
        .unwrap();
    let third = stage
        .driver_of(&run, &container, &target, restore(TreeRun::default()))
        .await;
    third.commit(&target.id).await.unwrap();
    assert_eq!(
        container.sh("cat /data/file /data/dir/y; ls -A /data"),
        "old\nx\ndir\nfile"
    );
    third.commit(&target.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_artifact_leaves_the_old_data() {
    let stage = Stage::new().await;
    let volume = TestVolume::create(&[]);
    let container = with_volume(&volume, "/data");
    container.sh("head -c 300000 /dev/urandom >/data/file");
    let target = volume_target(&volume, "/data");
    let captured = stage.dump(&container, &target).await;
    let path = stage.artifacts.path_of(&captured.artifacts[0]);
    let good = fs::read(&path).unwrap();
    container.sh("echo new >/data/file");
    // A helper may be killed between its last two steps, which leaves the mount's root with the time of the kill.
    let below_root = || {
        let mut described = describe(&mountpoint(&volume));
        described.remove("").expect("the root");
        described
    };
    let before = below_root();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for damaged in [&good[..good.len() / 2], &flipped, &[]] {
        fs::write(&path, damaged).unwrap();
        let driver = stage
            .driver(&container, &target, restore(TreeRun::default()))
            .await;
        let error = driver
            .load(&record(&target, &captured), &stage.artifacts)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
        driver.rollback(&target.id).await.unwrap();
        assert_same(&before, &below_root());
    }
    assert_eq!(stage.helpers_left(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn overlay_and_keep_existing_do_what_they_say() {
    let stage = Stage::new().await;
    let volume = TestVolume::create(&[]);
    let container = with_volume(&volume, "/data");
    container.sh("mkdir /data/d; echo saved >/data/d/both; echo saved >/data/d/gone");
    let target = volume_target(&volume, "/data");
    let captured = stage.dump(&container, &target).await;
    for (mode, expected) in [
        (TreeRestore::Overlay, "saved\nextra\nsaved"),
        (TreeRestore::KeepExisting, "now\nextra\nsaved"),
        (TreeRestore::Replace, "saved\nsaved"),
    ] {
        for placement in [Placement::Beside, Placement::InPlace] {
            container.sh("cd /data/d; echo now >both; echo extra >extra; rm -f gone");
            let target = with_mode(target.clone(), mode);
            let run = TreeRun {
                placement,
                ..TreeRun::default()
            };
            stage.restore(&container, &target, &captured, run).await;
            assert_eq!(
                container.sh("cd /data/d; cat *"),
                expected,
                "{mode:?} {placement:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn single_paths_are_restored_and_nothing_else_is_touched() {
    let stage = Stage::new().await;
    let volume = TestVolume::create(&[]);
    let container = with_volume(&volume, "/data");
    container
        .sh("cd /data; mkdir -p a/b; echo 1 >a/b/one; echo 2 >a/two; ln a/two zwei; echo 3 >three");
    let target = volume_target(&volume, "/data");
    let captured = stage.dump(&container, &target).await;
    container.sh("cd /data; rm -r a; rm zwei; echo now >three");
    let run = TreeRun {
        paths: vec![
            TreePath::parse(b"a/b").unwrap(),
            TreePath::parse(b"zwei").unwrap(),
        ],
        ..TreeRun::default()
    };
    stage.restore(&container, &target, &captured, run).await;
    assert_eq!(
        container.sh("cd /data; find . -type f | sort; cat a/b/one zwei three"),
        "./a/b/one\n./three\n./zwei\n1\n2\nnow"
    );

    let driver = stage
        .driver(
            &container,
            &target,
            restore(TreeRun {
                paths: vec![TreePath::parse(b"no/such").unwrap()],
                ..TreeRun::default()
            }),
        )
        .await;
    let error = driver
        .load(&record(&target, &captured), &stage.artifacts)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("no/such is not in the archive"),
        "{error}"
    );
    driver.rollback(&target.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_on_mounts_are_found_wherever_links_lead() {
    let stage = Stage::new().await;
    let volume = TestVolume::create(&[]);
    let host = tempfile::tempdir().unwrap();
    fs::create_dir(host.path().join("logs")).unwrap();
    fs::write(host.path().join("logs/a.log"), "log").unwrap();
    fs::write(host.path().join("single.conf"), "single").unwrap();
    let volume_mount = format!("{}:/vol", volume.name);
    let bind = format!("{}:/host", host.path().display());
    let single = format!(
        "{}:/etc/single.conf",
        host.path().join("single.conf").display()
    );
    let container = TestContainer::idle_with(&[
        "-v",
        &volume_mount,
        "-v",
        &bind,
        "-v",
        &single,
        "--tmpfs",
        "/run",
    ]);
    container.sh("mkdir -p /vol/app/data /srv; echo v >/vol/app/data/file; ln -s /vol/app /srv/app; mkfifo /srv/pipe; ln -s ../vol /srv/rel");

    for (path, shape, expected, change, read) in [
        (
            "/srv/app/data",
            TreeShape::Directory,
            "/vol/app/data",
            "echo x >/vol/app/data/file; echo e >/vol/app/data/extra",
            "cat /vol/app/data/*",
        ),
        (
            "/srv/rel/app/data/file",
            TreeShape::File,
            "/vol/app/data/file",
            "echo x >/vol/app/data/file",
            "cat /vol/app/data/file",
        ),
        (
            "/host/logs",
            TreeShape::Directory,
            "/host/logs",
            "rm /host/logs/a.log",
            "cat /host/logs/a.log",
        ),
        (
            "/etc/single.conf",
            TreeShape::File,
            "/etc/single.conf",
            "echo longer than before >/etc/single.conf",
            "cat /etc/single.conf",
        ),
    ] {
        let target = files_target(path);
        let before = container.sh(read);
        let captured = stage.dump(&container, &target).await;
        let found = facts(&captured);
        assert_eq!((found.shape, found.path.as_str()), (shape, expected));
        assert_eq!(captured.transfer, Transfer::Helper);
        container.sh(change);
        let driver = stage
            .driver(&container, &target, restore(TreeRun::default()))
            .await;
        let is_staged = driver.way_back(&target.id) == WayBack::Staged;
        assert_eq!(is_staged, path != "/etc/single.conf");
        stage
            .restore(&container, &target, &captured, TreeRun::default())
            .await;
        assert_eq!(container.sh(read), before, "{path}");
    }
    for (path, expected) in [
        ("/run/x", "is on a tmpfs, in the container's memory"),
        ("/no/such", "/no/such does not exist in container"),
        (
            "/srv/app/no/such",
            "/srv/app/no/such does not exist in container",
        ),
        ("/srv/pipe", "is neither a file nor a directory"),
    ] {
        let error = stage.dump_error(&container, &files_target(path)).await;
        assert!(error.contains(expected), "{path}: {error}");
    }
}

/// The engine tells where a mount was asked for, not where a link of the image has led it.
#[tokio::test(flavor = "multi_thread")]
async fn a_mount_behind_a_link_of_the_image_is_found() {
    let stage = Stage::new().await;
    let linked = TestContainer::idle();
    linked.sh("mkdir -p /srv/data && ln -s /srv/data /data && ln -s /data/app /app");
    let image = TestImage::of(&linked);
    let volume = TestVolume::create(&[]);
    let mount = format!("{}:/data", volume.name);
    let container = TestContainer::running(&["-v", &mount], &[&image.name, "sleep", "600"]);
    container.sh("mkdir /data/app; echo saved >/data/app/file");

    for path in ["/data/app", "/srv/data/app", "/app"] {
        let target = files_target(path);
        let captured = stage.dump(&container, &target).await;
        assert_eq!(captured.transfer, Transfer::Helper, "{path}");
        assert_eq!(facts(&captured).path, "/srv/data/app");
        container.sh("echo now >/data/app/file; echo extra >/data/app/extra");
        stage
            .restore(&container, &target, &captured, TreeRun::default())
            .await;
        assert_eq!(container.sh("cd /app; cat *"), "saved", "{path}");
    }
    let target = volume_target(&volume, "/data");
    let captured = stage.dump(&container, &target).await;
    container.sh("rm -r /data/app");
    stage
        .restore(&container, &target, &captured, TreeRun::default())
        .await;
    assert_eq!(container.sh("cd /app; cat *"), "saved");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_below_is_not_taken_along_and_told() {
    let stage = Stage::new().await;
    let outer = TestVolume::create(&[]);
    let inner = TestVolume::create(&[]);
    let mounts = [
        format!("{}:/data", outer.name),
        format!("{}:/data/inner", inner.name),
    ];
    let container = TestContainer::idle_with(&["-v", &mounts[0], "-v", &mounts[1]]);
    container.sh("echo o >/data/o; echo i >/data/inner/i");
    let captured = stage
        .dump(&container, &volume_target(&outer, "/data"))
        .await;
    assert_eq!(
        captured.warnings,
        ["/data/inner: something else is mounted there, which is not part of this target"]
    );
    assert_eq!(facts(&captured).entries, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_run_leaves_no_helper_and_a_killed_one_is_swept() {
    let stage = Stage::new().await;
    let volume = TestVolume::create(&[]);
    let container = with_volume(&volume, "/data");
    container.sh("head -c 200000000 /dev/urandom >/data/large");
    let target = volume_target(&volume, "/data");
    let driver = stage.driver(&container, &target, TreeRun::default()).await;
    let dump = driver.dump(&target.id, &stage.artifacts);
    assert!(
        tokio::time::timeout(Duration::from_millis(700), dump)
            .await
            .is_err()
    );
    assert_eq!(stage.helpers_left(), "");

    let run = RunId::generate(Timestamp::now());
    let left = |name: &str, image: &str, project: &str| {
        let labels = [
            format!("{HELPER_LABEL}={run}"),
            format!("{HELPER_PROJECT_LABEL}={project}"),
        ];
        // As images have it that compose built.
        let built = "com.docker.compose.project=built";
        let options = [
            "--label", &labels[0], "--label", &labels[1], "--label", built,
        ];
        TestContainer::named(name, &options, &[image, "true"])
    };
    let named = |prefix: &str, number: u32| format!("{prefix}{run}-{number:08x}");
    let (image, busybox) = (stage.image.as_str(), busybox_image());
    let foreign = left(&named(HELPER_NAME, 0), image, &unique("foreign"));
    let _dead = left(&named(HELPER_NAME, 1), image, &stage.project);
    let _dead_trial = left(&named(TRIAL_NAME, 2), busybox, &stage.project);
    // What only bears the labels, and what has the name too, are no helpers.
    let strangers = [
        left(&unique("stranger"), image, &stage.project),
        left(&named(HELPER_NAME, 3), busybox, &stage.project),
    ];
    sweep(&stage.engine, &stage.project).await.unwrap();
    for kept in strangers.iter().chain([&foreign]) {
        assert_eq!(kept.inspect("{{.State.Status}}"), "created");
    }
    drop(strangers);
    assert_eq!(stage.helpers_left(), "");
}

/// What patterns leave out, no snapshot holds.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_out_stays_through_every_restore_and_its_undo() {
    let stage = Stage::new().await;
    let volume = TestVolume::create(&[]);
    let container = with_volume(&volume, "/data");
    let list = "cd /data; find . -type f | sort | xargs grep -H .";
    container.sh("cd /data; mkdir -p media a/b/cache new; echo film >media/film; echo c >a/b/cache/c; echo saved >doc; echo saved >a/doc");
    let mut target = volume_target(&volume, "/data");
    target.options.exclude = vec!["/media/".to_owned(), "cache/".to_owned()];
    let captured = stage.dump(&container, &target).await;
    // Today's patterns are others than those of the snapshot.
    target.options.exclude = vec!["*.log".to_owned()];
    let change = "cd /data; echo now >doc; rm -f a/doc; mkdir -p gone/cache; echo c >gone/cache/c; echo l >new/l.log; echo e >new/extra";
    let kept = "./a/b/cache/c:c\n./a/doc:saved\n./doc:saved\n./gone/cache/c:c\n./media/film:film\n./new/l.log:l";
    let run = |placement, paths: &[&str]| TreeRun {
        placement,
        paths: paths
            .iter()
            .map(|path| TreePath::parse(path.as_bytes()).unwrap())
            .collect(),
        ..TreeRun::default()
    };
    for placement in [Placement::Beside, Placement::InPlace] {
        container.sh(change);
        let chosen = run(placement, &["a"]);
        stage.restore(&container, &target, &captured, chosen).await;
        assert_eq!(
            container.sh(list),
            format!(
                "{}\n./new/l.log:l",
                "./a/b/cache/c:c\n./a/doc:saved\n./doc:now\n./gone/cache/c:c\n./media/film:film\n./new/extra:e"
            ),
            "{placement:?}"
        );
        container.sh(change);
        stage
            .restore(&container, &target, &captured, run(placement, &[]))
            .await;
        assert_eq!(container.sh(list), kept, "{placement:?}");
    }

    // The way back of a load in place is always the whole of what was there, however it is made.
    container.sh(change);
    let before = container.sh(list);
    let safety = stage.dump(&container, &target).await;
    for (placement, mode) in [
        (Placement::InPlace, TreeRestore::Replace),
        (Placement::InPlace, TreeRestore::Overlay),
        (Placement::Beside, TreeRestore::KeepExisting),
    ] {
        let target = with_mode(target.clone(), mode);
        let in_place = restore(run(Placement::InPlace, &[]));
        let driver = stage.driver(&container, &target, in_place).await;
        driver
            .load(&record(&target, &captured), &stage.artifacts)
            .await
            .unwrap();
        assert_eq!(container.sh("cat /data/a/doc"), "saved");
        let driver = stage
            .driver(&container, &target, restore(run(placement, &["a"])))
            .await;
        driver
            .put_back(&record(&target, &safety), &stage.artifacts)
            .await
            .unwrap();
        assert_eq!(container.sh(list), before, "{placement:?} {mode:?}");
    }
    assert_eq!(container.sh("ls -A /data | grep coffer; true"), "");
}

/// Who moves a directory takes away what a container has mounted there, or leaves it with the old one.
#[tokio::test(flavor = "multi_thread")]
async fn what_running_containers_have_mounted_in_a_tree_stays_mounted() {
    let stage = Stage::new().await;
    let (outer, inner) = (TestVolume::create(&[]), TestVolume::create(&[]));
    let host = tempfile::tempdir().unwrap();
    fs::create_dir_all(host.path().join("tree/part")).unwrap();
    let host_path = host.path().display();
    let mounts = [
        format!("{}:/data", outer.name),
        format!("{}:/data/sub", inner.name),
        format!("{host_path}:/host"),
    ];
    let container = TestContainer::idle_with(&[
        "-v",
        &mounts[0],
        "-v",
        &mounts[1],
        "-v",
        &mounts[2],
        "--tmpfs",
        "/data/deep/er/cache",
    ]);
    let others = [
        format!("{}:/shared", outer.name),
        format!("{}:/shared/theirs", inner.name),
        format!("{host_path}/tree/part:/part"),
    ];
    let other = TestContainer::idle_with(&["-v", &others[0], "-v", &others[1], "-v", &others[2]]);
    container.sh(
        "cd /data; echo o >o; echo i >sub/i; echo t >deep/er/cache/t; echo p >/host/tree/part/p",
    );
    for (target, change) in [
        (
            volume_target(&outer, "/data"),
            "echo now >/data/o; echo e >/data/deep/er/e",
        ),
        (files_target("/data/deep"), "echo e >/data/deep/er/e"),
        (
            files_target("/host/tree"),
            "echo now >/host/tree/part/p; echo e >/host/tree/e",
        ),
    ] {
        let captured = stage.dump(&container, &target).await;
        for placement in [Placement::Beside, Placement::InPlace] {
            container.sh(change);
            let run = TreeRun {
                placement,
                ..TreeRun::default()
            };
            stage.restore(&container, &target, &captured, run).await;
            assert_eq!(
                container.sh(
                    "cat /data/o /data/sub/i /data/deep/er/cache/t; ls /data/deep/er /host/tree"
                ),
                "o\ni\nt\n/data/deep/er:\ncache\n\n/host/tree:\npart",
                "{target:?} {placement:?}"
            );
            assert_eq!(
                other.sh("cat /shared/o /shared/theirs/i /part/p"),
                "o\ni\np"
            );
            let mounted = "grep -c -e ' /data/sub ' -e ' /data/deep/er/cache ' -e ' /shared/theirs ' /proc/self/mounts";
            assert_eq!(
                (container.sh(mounted), other.sh(mounted)),
                ("2".to_owned(), "1".to_owned())
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_without_room_keeps_its_data_and_nothing_else() {
    let stage = Stage::new().await;
    for (size, fill, words) in [
        (
            "size=8m",
            "head -c 5000000 /dev/urandom >big",
            "there is not enough room",
        ),
        // The disk is full before all is unpacked, or there are no inodes left for it.
        (
            "size=8m",
            "i=0; while [ $i -lt 900 ]; do head -c 4200 /dev/zero >$i; i=$((i+1)); done",
            "room",
        ),
        (
            "size=8m,nr_inodes=40",
            "touch 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m n o p q r s t",
            "room",
        ),
    ] {
        let options = format!("o={size}");
        let volume = TestVolume::create(&[
            "--opt",
            "type=tmpfs",
            "--opt",
            "device=tmpfs",
            "--opt",
            &options,
        ]);
        let container = with_volume(&volume, "/data");
        container.sh(&format!("cd /data; {fill}"));
        let target = volume_target(&volume, "/data");
        let captured = stage.dump(&container, &target).await;
        let before = container.sh("cd /data; find . | sort; cat * | md5sum");
        let driver = stage
            .driver(&container, &target, restore(TreeRun::default()))
            .await;
        let failed = driver
            .load(&record(&target, &captured), &stage.artifacts)
            .await;
        let error = failed.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        // On what is full now, or fills in the meantime.
        container.sh("cat /dev/zero >/data/full 2>/dev/null; true");
        driver.rollback(&target.id).await.unwrap();
        container.sh("rm -f /data/full");
        assert_eq!(
            container.sh("cd /data; find . | sort; cat * | md5sum"),
            before
        );
        let in_place = TreeRun {
            placement: Placement::InPlace,
            ..TreeRun::default()
        };
        stage
            .restore(&container, &target, &captured, in_place)
            .await;
        assert_eq!(
            container.sh("cd /data; find . | sort; cat * | md5sum"),
            before
        );
    }

    // Full to the last byte when the exchange begins.
    let volume = TestVolume::create(&[
        "--opt",
        "type=tmpfs",
        "--opt",
        "device=tmpfs",
        "--opt",
        "o=size=8m",
    ]);
    let container = with_volume(&volume, "/data");
    container.sh("cd /data; mkdir keep; echo saved >doc; touch keep/a.log");
    let mut target = volume_target(&volume, "/data");
    target.options.exclude = vec!["*.log".to_owned()];
    let captured = stage.dump(&container, &target).await;
    container.sh("echo now >/data/doc");
    let driver = stage
        .driver(&container, &target, restore(TreeRun::default()))
        .await;
    driver
        .load(&record(&target, &captured), &stage.artifacts)
        .await
        .unwrap();
    container.sh("cat /dev/zero >/data/full 2>/dev/null; true");
    driver.commit(&target.id).await.unwrap();
    assert_eq!(
        container.sh("cd /data; cat doc; ls -A . keep"),
        "saved\n.:\ndoc\nkeep\n\nkeep:\na.log"
    );
}
