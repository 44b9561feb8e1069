import koffi, { type KoffiFunc } from 'koffi';

/** The functions of the C library that Node does not offer, called in this process. */
export interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Buffer, length: number): number;
  connect(fd: number, address: Buffer, length: number): number;
  getsockname(fd: number, address: Buffer, length: Buffer): number;
  setsockopt(fd: number, level: number, name: number, value: Buffer, length: number): number;
  getsockopt(fd: number, level: number, name: number, value: Buffer, length: Buffer): number;
  send(fd: number, data: Buffer, length: number, flags: number): number;
  recv(fd: number, data: Buffer, length: number, flags: number): number;
  sendto(
    fd: number,
    data: Buffer,
    length: number,
    flags: number,
    address: Buffer,
    addressLength: number,
  ): number;
  open(path: string, flags: number): number;
  close(fd: number): number;
  setns(fd: number, kind: number): number;
  eventfd(initial: number, flags: number): number;
  write(fd: number, data: Buffer, length: number): number;
  if_nametoindex(name: string): number;
  flock(fd: number, operation: number): number;
  ioctl(fd: number, request: number, data: Buffer): number;
  /** The address of a buffer, valid as long as something refers to the buffer. */
  addressOf(data: Buffer): bigint;
  mount(source: string, target: string, type: string, flags: number, data: string): number;
  /** Ends the process immediately, whatever its threads do. */
  exit(status: number): void;
  /** The kernel ends the process by SIGALRM in so many seconds, unless this is called again before; 0: never. */
  alarm(seconds: number): number;
  /** The number of the last error, to be read immediately after the failed call. */
  errno(): number;
  /** `close` on a thread of the pool, for sockets whose end is slow in the kernel. */
  closeOffThread(fd: number): Promise<void>;
  /** `send` on a thread of the pool, for requests that are slow in the kernel. */
  sendOffThread(fd: number, data: Buffer): Promise<number>;
  /** `recv` on a thread of the pool: the kernel may have to look for the next part of a long list. */
  recvOffThread(fd: number, data: Buffer): Promise<number>;
  /** `poll` on a thread of the pool. The process cannot exit meanwhile, so keep the timeout short. */
  pollOffThread(descriptors: Buffer, count: number, timeoutMs: number): Promise<number>;
}

/** Loads the C library of the process. */
export function loadLibc(): Libc {
  const library = koffi.load(null);
  const send: KoffiFunc<(fd: number, data: Buffer, length: number, flags: number) => number> =
    library.func('int send(int fd, const void *data, size_t length, int flags)');
  const recv: KoffiFunc<(fd: number, data: Buffer, length: number, flags: number) => number> =
    library.func('int recv(int fd, void *data, size_t length, int flags)');
  const close: KoffiFunc<(fd: number) => number> = library.func('int close(int fd)');
  const poll: KoffiFunc<(fds: Buffer, count: number, timeout: number) => number> = library.func(
    'int poll(void *fds, unsigned long count, int timeout)',
  );
  return {
    socket: library.func('int socket(int domain, int type, int protocol)'),
    bind: library.func('int bind(int fd, const void *address, uint length)'),
    connect: library.func('int connect(int fd, const void *address, uint length)'),
    getsockname: library.func('int getsockname(int fd, void *address, void *length)'),
    setsockopt: library.func(
      'int setsockopt(int fd, int level, int name, const void *value, uint length)',
    ),
    getsockopt: library.func(
      'int getsockopt(int fd, int level, int name, void *value, void *length)',
    ),
    send,
    recv,
    sendto: library.func(
      'long sendto(int fd, const void *data, size_t length, int flags, const void *address, uint address_length)',
    ),
    open: library.func('int open(const char *path, int flags)'),
    close,
    setns: library.func('int setns(int fd, int kind)'),
    eventfd: library.func('int eventfd(uint initial, int flags)'),
    write: library.func('int write(int fd, const void *data, size_t length)'),
    if_nametoindex: library.func('uint if_nametoindex(const char *name)'),
    flock: library.func('int flock(int fd, int operation)'),
    ioctl: library.func('int ioctl(int fd, unsigned long request, void *data)'),
    addressOf: (data) => koffi.address(data),
    mount: library.func(
      'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
    ),
    exit: library.func('void _exit(int status)'),
    alarm: library.func('uint alarm(uint seconds)'),
    errno: () => koffi.errno(),
    closeOffThread: (fd) =>
      new Promise((resolve) => {
        close.async(fd, () => resolve());
      }),
    sendOffThread: (fd, data) =>
      new Promise((resolve, reject) => {
        send.async(fd, data, data.length, 0, (error: unknown, sent) => {
          if (error instanceof Error) reject(error);
          else resolve(sent);
        });
      }),
    recvOffThread: (fd, data) =>
      new Promise((resolve, reject) => {
        recv.async(fd, data, data.length, 0, (error: unknown, received) => {
          if (error instanceof Error) reject(error);
          else resolve(received);
        });
      }),
    pollOffThread: (descriptors, count, timeoutMs) =>
      new Promise((resolve, reject) => {
        poll.async(descriptors, count, timeoutMs, (error: unknown, ready) => {
          if (error instanceof Error) reject(error);
          else resolve(ready);
        });
      }),
  };
}
