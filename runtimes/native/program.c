#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

int brood_start_program(const struct brood_program* program, int input, int output, pid_t* pid) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t all;
  sigset_t none;
  sigfillset(&all);
  sigemptyset(&none);
  int error = posix_spawn_file_actions_init(&actions);
  if (error != 0) {
    return error;
  }
  error = posix_spawnattr_init(&attributes);
  if (error == 0) {
    error = posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  }
  (void)posix_spawnattr_setsigdefault(&attributes, &all);
  (void)posix_spawnattr_setsigmask(&attributes, &none);
  if (error == 0 && input >= 0) {
    error = posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  }
  if (error == 0 && output >= 0) {
    error = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  }
  if (error == 0) {
    error = posix_spawn_file_actions_addchdir_np(&actions, program->directory);
  }
  if (error == 0) {
    environ = program->environment; /* PATH is the program's */
    error = posix_spawnp(pid, program->arguments[0], &actions, &attributes, program->arguments,
                         program->environment);
  }
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

struct exchange {
  int input;  /* -1: all is written, or nobody reads it */
  int output; /* -1: at its end */
  int ended;  /* pidfd of the program; -1: it has ended */
  const char* payload;
  size_t left;
};

static void close_end(int* fd) {
  if (*fd >= 0) {
    close(*fd);
    *fd = -1;
  }
}

static void write_some(struct exchange* exchange) {
  const ssize_t put = write(exchange->input, exchange->payload, exchange->left);
  if (put > 0) {
    exchange->payload += put;
    exchange->left -= (size_t)put;
  }
  /* A program need not read what it is given. */
  if (exchange->left == 0 || (put < 0 && errno != EAGAIN && errno != EINTR)) {
    close_end(&exchange->input);
  }
}

static void carry(struct exchange* exchange, struct brood_buffer* answer) {
  if (exchange->left == 0) {
    close_end(&exchange->input);
  }
  while (exchange->output >= 0 || exchange->ended >= 0) {
    struct pollfd polled[] = {{.fd = exchange->input, .events = POLLOUT},
                              {.fd = exchange->output, .events = POLLIN},
                              {.fd = exchange->ended, .events = POLLIN}};
    if (poll(polled, 3, -1) < 0) {
      continue;
    }
    if (polled[0].revents != 0) {
      write_some(exchange);
    }
    if (polled[1].revents != 0) {
      const long got = brood_buffer_read(answer, exchange->output);
      if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) {
        close_end(&exchange->output);
      }
    }
    if (polled[2].revents != 0) {
      /* Everything but pid 1 and this process: what the program left behind would keep its output
       * open, and be there in the next invocation. */
      (void)kill(-1, SIGKILL);
      close_end(&exchange->ended);
      close_end(&exchange->input);
    }
  }
}

int brood_run_program(const struct brood_program* program, const void* payload, size_t size,
                      struct brood_buffer* answer, int* status) {
  int input[2];
  int output[2];
  pid_t pid = -1;
  if (pipe2(input, O_CLOEXEC) != 0) {
    return errno;
  }
  int error = pipe2(output, O_CLOEXEC) != 0 ? errno : 0;
  if (error != 0) {
    close(input[0]);
    close(input[1]);
    return error;
  }
  error = brood_start_program(program, input[0], output[1], &pid);
  close(input[0]);
  close(output[1]);
  struct exchange exchange = {
      .input = input[1], .output = output[0], .ended = -1, .payload = payload, .left = size};
  if (error == 0) {
    (void)fcntl(input[1], F_SETFL, O_NONBLOCK);
    exchange.ended = (int)syscall(SYS_pidfd_open, pid, 0);
    carry(&exchange, answer);
    while (waitpid(pid, status, 0) < 0 && errno == EINTR) {
    }
  }
  close_end(&exchange.input);
  close_end(&exchange.output);
  return error;
}

void brood_describe_status(int status, char* text, size_t room) {
  if (WIFEXITED(status)) {
    snprintf(text, room, "left with status %d", WEXITSTATUS(status));
    return;
  }
  const int number = WTERMSIG(status);
  const char* name = sigabbrev_np(number);
  snprintf(text, room, "was killed by signal %d%s%s%s", number, name != NULL ? " (SIG" : "",
           name != NULL ? name : "", name != NULL ? ")" : "");
}
