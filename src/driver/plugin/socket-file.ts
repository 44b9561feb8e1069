import { chmod, mkdir, rename, rm, stat } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import { dirname } from 'node:path';
import { CalicoError, describe } from '../../errors/error.ts';

/** A Unix socket that receives Docker's calls. */
export interface SocketFile {
  /** Delivers the calls, including those received before. */
  serve(handler: RequestListener): void;

  /** Accepts no new calls, waits for the running ones, and removes the file. */
  close(): Promise<void>;
}

/** Limits of a socket, in milliseconds. */
interface Limits {
  /**
   * Time limit for receiving a call, from its connection to its last byte; slower clients are disconnected. Docker
   * connects when it has a call, and writes it immediately. The time of the response is not limited.
   */
  readonly arrivalMs: number;
  /** How long a connection may keep the socket from closing. */
  readonly closeMs: number;
}

const usual: Limits = { arrivalMs: 60_000, closeMs: 11_000 };

/**
 * Listens on a socket file, replacing a stale one of its name. Calls wait until a server takes over. Listens under a
 * temporary name and renames it, so that the file never exists without a listener. Throws `driver/cannot-listen`.
 */
export async function listenOnSocketFile(
  file: string,
  { arrivalMs, closeMs }: Limits = usual,
): Promise<SocketFile> {
  const { promise: handler, resolve: serve } = Promise.withResolvers<RequestListener>();
  const server = createServer(
    {
      keepAliveTimeout: 0,
      requestTimeout: arrivalMs,
      headersTimeout: arrivalMs,
      connectionsCheckingInterval: arrivalMs / 4,
    },
    (request, response) => {
      void handler.then((handle) => handle(request, response));
    },
  );
  server.timeout = 0;
  const temporary = `${file}.${process.pid}`;
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o755 });
    await rm(temporary, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(temporary, resolve);
    });
    await chmod(temporary, 0o660);
    await rename(temporary, file);
  } catch (error) {
    throw new CalicoError('driver/cannot-listen', { file, why: describe(error) }, { cause: error });
  }
  // A connection that could not be accepted (no descriptor left) fails only its client's call.
  server.on('error', () => undefined);
  const { ino } = await stat(file);
  return {
    serve,
    close: async () => {
      const force = setTimeout(() => server.closeAllConnections(), closeMs);
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
      clearTimeout(force);
      // A newer process may have replaced this socket.
      const present = await stat(file).catch(() => undefined);
      if (present?.ino === ino) await rm(file, { force: true });
    },
  };
}
