/* The harness must report what goes wrong: this program runs itself with tests that fail on purpose.
 * (not under emulation: it executes itself, which the emulator would run natively) */
#include "check.h"

/* Planted tests: they fail only when BAD is set, which the real tests below do in a child. */
static int planted(const char *name)
{
    const char *bad = getenv("CHECK_TEST_BAD");
    return bad != NULL && strcmp(bad, name) == 0;
}

TEST(planted_value) { CHECK_EQ(planted("value") ? 41 : 42, 42); }
TEST(planted_string) { CHECK_STR(planted("string") ? "left" : "right", "right"); }
TEST(planted_bytes) { CHECK_MEM(planted("bytes") ? "abcX" : "abcd", "abcd", 4); }

TEST(planted_crash)
{
    CHECK(1);
    if (planted("crash")) raise(SIGKILL);
}

TEST_LIMIT(planted_hang, 1)
{
    CHECK(1);
    while (planted("hang")) pause();
}

TEST(planted_nothing)
{
    if (!planted("nothing")) CHECK(1);
}

TEST(planted_exit)
{
    CHECK(1);
    if (planted("exit")) exit(3);
}

TEST(planted_grandchild)
{
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(!planted("grandchild"));
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    CHECK(pid > 0);
}

TEST_LIMIT(planted_orphan, 1)
{
    CHECK(1);
    if (planted("orphan") && fork() == 0)
        for (;;) pause();
    while (planted("orphan")) pause();
}

/* Runs the planted test in a fresh copy of this program; returns its exit status, and its output in text. */
static int run_planted(const char *name, const char *bad, char *text, size_t size)
{
    char filter[64];
    size_t have = 0;
    ssize_t n;
    int ends[2], status = -1;
    pid_t pid;
    snprintf(filter, sizeof filter, "planted_%s", name);
    REQUIRE(pipe(ends) == 0);
    pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        setenv("CHECK_TEST_BAD", bad, 1);
        unsetenv("CHECK_REPORT");
        unsetenv("CHECK_SLOW");
        execl("/proc/self/exe", "test_check", filter, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    while ((n = read(ends[0], text + have, size - 1 - have)) > 0) have += (size_t)n;
    text[have] = '\0';
    close(ends[0]);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void must_fail(const char *name, const char *saying)
{
    char text[8192];
    CHECK_EQ(run_planted(name, name, text, sizeof text), 1);
    if (!CHECK(strstr(text, saying) != NULL)) printf("in: %s\n", text);
    CHECK(strstr(text, "\n0 passed, 1 failed\n") != NULL);
    CHECK_EQ(run_planted(name, "none", text, sizeof text), 0);
    CHECK(strstr(text, "\n1 passed, 0 failed\n") != NULL);
}

TEST(reports_a_wrong_value) { must_fail("value", "41 (0x29) and 42 (0x2a)"); }
TEST(reports_a_wrong_string) { must_fail("string", "\"left\" and \"right\""); }
TEST(reports_wrong_bytes) { must_fail("bytes", "byte 3 of 4 is 0x58 and 0x64"); }
TEST(reports_a_crash) { must_fail("crash", "killed by signal 9"); }
TEST(reports_a_hang) { must_fail("hang", "still running after 1 s"); }
TEST(reports_a_test_without_checks) { must_fail("nothing", "it checked nothing"); }
TEST(reports_an_exit_status) { must_fail("exit", "exit status 3"); }
TEST(reports_a_failure_of_a_forked_process) { must_fail("grandchild", "1 checks failed"); }

/* The orphan holds our pipe open, so reading to its end proves that it was killed as well. */
TEST(kills_the_whole_group_of_a_hanging_test) { must_fail("orphan", "still running after 1 s"); }

TEST(a_filter_that_matches_nothing_is_a_failure)
{
    char text[8192];
    CHECK_EQ(run_planted("no_such_test", "none", text, sizeof text), 1);
    CHECK(strstr(text, "0 passed, 0 failed\n") != NULL);
}

TEST(the_seed_and_the_name_determine_the_sequence)
{
    uint64_t a, b;
    check__seed_test("one");
    a = check_random();
    check__seed_test("two");
    b = check_random();
    CHECK(a != b);
    check__seed_test("one");
    CHECK(check_random() == a);
}

TEST(knows_statement_ids)
{
    CHECK_EQ(check__id_len("K1_rest"), 2);
    CHECK_EQ(check__id_len("S21"), 3);
    CHECK_EQ(check__id_len("I10 K1"), 3);
    CHECK_EQ(check__id_len("Kx"), 0);
    CHECK_EQ(check__id_len("K"), 0);
    CHECK_EQ(check__id_len("planted"), 0);
    CHECK_EQ(check__id_len("I1x"), 0);
}
