//! Every command's help, and every answer that needs no server, as a user sees it.

#[test]
fn help_and_offline_answers() {
    trycmd::TestCases::new().case("tests/cmd/*.trycmd");
}
