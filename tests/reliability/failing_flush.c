/* Preloaded into a process: while the file that FAILING_FLUSH names exists, nothing reaches the
   disk, and whoever asks is told so. There is room, and every write succeeds. */

#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int flush(long call, int file) {
  const char *flag = getenv("FAILING_FLUSH");
  if (flag != NULL && access(flag, F_OK) == 0) {
    errno = EIO;
    return -1;
  }
  return (int)syscall(call, file);
}

int fsync(int file) { return flush(SYS_fsync, file); }

int fdatasync(int file) { return flush(SYS_fdatasync, file); }
