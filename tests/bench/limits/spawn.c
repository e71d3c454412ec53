/* Starts a shell with `-c true`, reads its output to the end and waits for it, again and
 * again: the least that running a command can cost.
 *
 *   spawn each COUNT SHELL    prints the median of COUNT runs, in nanoseconds
 *   spawn for SECONDS SHELL   prints how many runs fit into SECONDS
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void check(int failed, const char *what) {
    if (failed) {
        perror(what);
        exit(1);
    }
}

static void run(const char *shell) {
    char *argv[] = {(char *)shell, "-c", "true", NULL};
    char buffer[65536];
    int ends[2], status;
    pid_t pid;
    posix_spawn_file_actions_t actions;

    check(pipe2(ends, O_CLOEXEC) != 0, "pipe2");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
    check(posix_spawn(&pid, shell, &actions, NULL, argv, environ) != 0, "posix_spawn");
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    while (read(ends[0], buffer, sizeof buffer) > 0) {
    }
    close(ends[0]);
    check(waitpid(pid, &status, 0) != pid, "waitpid");
    check(status != 0, "the shell's status");
}

static int ascending(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        return 2;
    }
    if (strcmp(argv[1], "each") == 0) {
        long count = atol(argv[2]);
        int64_t *took = malloc(sizeof *took * count);
        for (long i = 0; i < count; i++) {
            int64_t started = now_ns();
            run(argv[3]);
            took[i] = now_ns() - started;
        }
        qsort(took, count, sizeof *took, ascending);
        printf("%lld\n", (long long)took[count / 2]);
        free(took);
    } else {
        int64_t ends = now_ns() + (int64_t)(atof(argv[2]) * 1e9);
        long count = 0;
        for (; now_ns() < ends; count++) {
            run(argv[3]);
        }
        printf("%ld\n", count);
    }
    return 0;
}
