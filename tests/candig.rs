//! The CanDIG example from beginning to end, as `make demo` runs it: brought up by compose, saved, destroyed, and put back by
//! one `docker run` of the image, its services asked over HTTP.

mod support;

#[test]
fn d1_d2_d5_d6_d7_the_example_is_saved_destroyed_and_put_back() {
    support::example::run_demo(
        "candig",
        &["DONOR-DEMO", "5 targets saved", "Restored 5 targets"],
    );
}
