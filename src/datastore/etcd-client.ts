import { InterceptingCall, type Interceptor } from '@grpc/grpc-js';
import { ConstantBackoff, noop } from 'cockatiel';
import { Etcd3, LeaseClient, WatchClient, type IOptions } from 'etcd3';
import { readCredentials, type EtcdOptions } from './etcd-credentials.ts';

/** Connections to etcd, one client for each endpoint. */

/** Time limits of calls, in milliseconds. */
export const limits = { attemptMs: 2000, pauseMs: 100 };

/**
 * etcd closes a connection, with all its calls, if it is pinged more often than every 5 s
 * (`--grpc-keepalive-min-time`). Calls do not depend on pings: they have a deadline.
 */
const keepaliveMs = 6000;
/** Maximum size of a response in bytes; the library's default is 4 MiB. */
const maxReceivedBytes = 64 << 20;
/**
 * How many bytes etcd sends before it waits for this process; HTTP/2's default is 64 kB. While the event loop decodes a
 * page of a listing, most of the next one arrives in the kernel, not in pieces between slices of that work.
 */
const windowBytes = 4 << 20;

/** Returns a client of each endpoint, in random order, with the files of the options as they are now. */
export async function clientsOf(options: EtcdOptions): Promise<readonly Client[]> {
  const credentials = await readCredentials(options);
  const { username, password } = options;
  return shuffled(options.endpoints).map(
    (host) =>
      new Client({
        hosts: [host],
        ...credentials,
        ...(username === undefined ? {} : { auth: { username, password: password ?? '' } }),
        ...clientOptions(),
      }),
  );
}

function shuffled<T>(all: readonly T[]): readonly T[] {
  return all
    .map((one) => ({ one, at: Math.random() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ one }) => one);
}

/** A client of one endpoint. */
export class Client extends Etcd3 {
  readonly watches = new WatchClient(this.pool);
  readonly leases = new LeaseClient(this.pool);
  readonly connections = this.pool;
}

/**
 * The library's default policies repeat a compare-and-swap that may have been applied, block every call for seconds
 * after one slow response, and go on choosing endpoints that have failed; EtcdEndpoints has its own rules.
 */
export function clientOptions(): Omit<IOptions, 'hosts'> {
  return {
    faultHandling: {
      host: () => noop,
      global: noop,
      watchBackoff: new ConstantBackoff(250).next(),
    },
    defaultCallOptions: (context) =>
      context.isStream
        ? { interceptors: [requireLeader] }
        : { deadline: Date.now() + limits.attemptMs },
    grpcOptions: {
      // A proxy for downloads in the environment of a command is none for the members.
      'grpc.enable_http_proxy': 0,
      'grpc.keepalive_time_ms': keepaliveMs,
      'grpc.keepalive_timeout_ms': 1500,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 500,
      'grpc.max_receive_message_length': maxReceivedBytes,
      'grpc-node.flow_control_window': windowBytes,
    },
  };
}

/**
 * Makes a member of etcd end a stream when it has lost the quorum (metadata `hasleader`, etcd API: "Streams with leader
 * requirement"). Otherwise its watches stay open and silent while the other members accept writes.
 */
const requireLeader: Interceptor = (options, nextCall) =>
  new InterceptingCall(nextCall(options), {
    start: (metadata, listener, next) => {
      metadata.set('hasleader', 'true');
      next(metadata, listener);
    },
  });

/** Ends the connections of clients. */
export function closeAll(clients: readonly Client[]): void {
  for (const client of clients) client.close();
}
