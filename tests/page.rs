//! The status page in a real browser: by keyboard alone, on a narrow screen, in the dark.

use std::collections::BTreeSet;

use base64::Engine as _;
use serde_json::Value;

use crate::support::browser::{Browser, Scheme};
use crate::support::serving::{Serving, TOKEN};
use crate::support::stack::{TestStack, compose_volume, eventually};
use crate::support::{TestContainer, TestVolume};

/// The longest names that anybody gives, and some that nobody should.
const LONG: &str =
    "a-very-long-name-that-somebody-has-given-to-a-service-because-nothing-kept-them-from-it";
const MARKUP: &str = "sh -c 'echo \"<img src=x onerror=alert(1)>\" >&2; exit 3'";

struct Scene {
    _things: Vec<(TestContainer, TestVolume)>,
    _failing: TestContainer,
    daemon: Serving,
    stack: TestStack,
}

/// Something that is saved, something that fails, and something that nobody saves; twice saved.
fn scene(token: Option<&str>) -> Scene {
    let stack = TestStack::new("page");
    let thing = |service: &str, labels: &[(&str, &str)]| {
        let volume = compose_volume(&stack, service);
        let mount = format!("{}:/data", volume.name);
        let container = stack.toolbox(service, labels, &["--volume", &mount]);
        container.sh("head -c 300000 /dev/urandom > /data/some");
        (container, volume)
    };
    let things = vec![
        thing("db", &[("cofferdam.volumes", "db")]),
        thing(
            LONG,
            &[
                ("cofferdam.volumes", LONG),
                ("cofferdam.schedule", "@weekly"),
            ],
        ),
        thing("web", &[]),
    ];
    let failing = stack.toolbox("ldap", &[("cofferdam.command.ldap.dump", MARKUP)], &[]);
    for _ in 0..2 {
        stack.cofferdam(&["backup"]).expect(3);
    }
    let command = stack.command(&["daemon", "--schedule", "@daily"]);
    let daemon = Serving::of(&stack, command, token);
    eventually("all is looked at", || {
        let page = daemon.ask("GET /").body;
        page.contains("Not protected") && page.contains("class=\"plot\"")
    });
    Scene {
        _things: things,
        _failing: failing,
        daemon,
        stack,
    }
}

impl Scene {
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.daemon.port)
    }
}

/// Where `TEST_SCREENSHOTS` says, for people to look at.
fn keep(browser: &mut Browser, name: &str) {
    if let Some(directory) = std::env::var_os("TEST_SCREENSHOTS") {
        let picture = base64::engine::general_purpose::STANDARD
            .decode(browser.screenshot())
            .expect("Base64");
        let path = std::path::Path::new(&directory).join(format!("{name}.png"));
        std::fs::write(path, picture).expect("a picture");
    }
}

/// What takes the focus, as the page itself knows it.
const INTERACTIVE: &str = "[...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')]
    .filter(it => it.checkVisibility())
    .map((it, at) => { it.dataset.number = at; return at; }).length";

/// Which of them has it, and whether that can be seen.
const FOCUSED: &str = "(() => {
    const it = document.activeElement, style = getComputedStyle(it);
    return [it.dataset.number ?? null, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2];
})()";

/// The least contrast of any text with what lies behind it (https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio).
const CONTRAST: &str = r"(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    canvas.canvas.width = canvas.canvas.height = 1;
    const behind = it => it ? [...behind(it.parentElement), getComputedStyle(it).backgroundColor] : ['white'];
    const paint = colours => {
        for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = colour => {
        const [r, g, b] = colour.map(it => it / 255).map(it => it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let worst = [21, ''];
    const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (words.nextNode()) {
        const it = words.currentNode.parentElement;
        if (!words.currentNode.data.trim() || !it.checkVisibility() || it.closest('title, desc')) continue;
        const grounds = behind(it);
        const [a, b] = [light(paint(grounds)), light(paint([...grounds, getComputedStyle(it).color]))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < worst[0]) worst = [contrast, words.currentNode.data.trim()];
    }
    return worst;
})()";

#[test]
fn it_can_be_read_by_everybody_on_every_screen() {
    let scene = scene(None);
    let mut browser = Browser::start();
    let mut grounds = BTreeSet::new();
    for scheme in [Scheme::Light, Scheme::Dark] {
        browser.prefer(scheme);
        for (width, name) in [(1200, "wide"), (360, "narrow"), (320, "narrowest")] {
            browser.resize(width, 800);
            browser.open(&scene.url());
            browser.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)");
            let overflow = browser.evaluate("document.documentElement.scrollWidth - innerWidth");
            assert!(overflow.as_i64() <= Some(0), "{overflow} at {width}");
            keep(&mut browser, &format!("{scheme:?}-{name}").to_lowercase());
        }
        let contrast = browser.evaluate(CONTRAST);
        assert!(contrast[0].as_f64() >= Some(4.5), "{scheme:?}: {contrast}");
        let ground = browser.evaluate("getComputedStyle(document.body).backgroundColor");
        grounds.insert(ground.to_string());
    }
    assert_eq!(grounds.len(), 2, "light and dark look alike: {grounds:?}");
    assert_eq!(browser.complaints(), [""; 0]);
    // Nobody's markup has become a part of the page.
    let images = browser.evaluate("document.querySelectorAll('img, script, [onerror]').length");
    assert_eq!(images, 0);
    assert!(
        browser
            .evaluate("document.body.innerText")
            .as_str()
            .is_some_and(|text| text.contains("<img src=x"))
    );
}

#[test]
fn everything_on_it_is_reached_by_keyboard() {
    let scene = scene(None);
    let mut browser = Browser::start();
    browser.resize(1200, 800);
    browser.open(&scene.url());
    browser.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)");
    let number = browser.evaluate(INTERACTIVE).as_u64().expect("a number");
    assert!(number > 5, "{number}");
    let mut reached: Vec<Value> = Vec::new();
    for _ in 0..number {
        browser.press("Tab", 9);
        let focused = browser.evaluate(FOCUSED);
        assert_eq!(focused[1], true, "the focus cannot be seen: {focused}");
        reached.push(focused[0].clone());
    }
    let expected: Vec<Value> = (0..number).map(|at| at.to_string().into()).collect();
    assert_eq!(reached, expected, "in the order of the page");

    // The first one skips what stands before the content.
    browser.open(&scene.url());
    browser.press("Tab", 9);
    assert_eq!(
        browser.evaluate("document.activeElement.textContent"),
        "Skip to the content"
    );
    browser.evaluate("document.activeElement.click()");
    assert_eq!(browser.evaluate("document.activeElement.id"), "main");
    let title = browser.evaluate("document.title");
    assert_eq!(title, "Needs attention · Cofferdam");
    let named = "[...document.querySelectorAll('svg[role=img]')].every(it => it.getAttribute('aria-labelledby').split(' ') \
                 .every(id => document.getElementById(id).textContent))";
    assert_eq!(browser.evaluate(named), true);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_browser_logs_in_with_the_token_as_its_password() {
    let scene = scene(Some(TOKEN));
    let mut browser = Browser::start();
    let port = scene.daemon.port;
    browser.open(&format!("http://ops:{TOKEN}@127.0.0.1:{port}/"));
    let heading = browser.evaluate("document.querySelector('h1').textContent");
    assert_eq!(heading, "Backups need attention");
    // The style came with the same login.
    let ground =
        browser.evaluate("getComputedStyle(document.querySelector('.verdict')).borderRadius");
    assert_eq!(ground, "14px");
    assert_eq!(browser.complaints(), [""; 0]);
    assert!(scene.stack.repository().exists());
}
