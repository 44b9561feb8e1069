import { pause } from '../async/deadline.ts';
import { networkCapabilities } from '../driver/network-driver.ts';
import {
  createPluginServer,
  method,
  methodWithoutBody,
  type CallRecord,
  type Method,
  type PluginServer,
} from '../driver/plugin/plugin-server.ts';
import type { CalicoError } from '../errors/error.ts';
import { addressSpaces, capabilities, type createDockerIpam } from '../ipam/docker/docker-ipam.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';

export interface PluginServersDeps {
  /** The network driver's calls that change or read networks and endpoints. */
  readonly network: Readonly<Record<string, Method>>;
  readonly ipam: ReturnType<typeof createDockerIpam>;
  /** Resolves when the datastore has been read. */
  readonly initialised: Promise<void>;
  /** Reports whether the datastore has failed to respond. */
  readonly isAway: () => boolean;
  /** How long a call waits while the datastore is unavailable, and while it is being read, in milliseconds. */
  readonly patience?: { readonly awayMs: number; readonly readingMs: number };
  /** Returns the error for calls while the datastore has not been read. */
  readonly whyNotReady: () => CalicoError;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Called for Docker's first call to a plugin, once per run of dockerd. */
  readonly onActivated: () => void;
  /** Whether the log contains the bodies of requests and responses. */
  readonly logsBodies: boolean;
  /** Called for a failed call. */
  readonly onRefused: (callId: string, error: CalicoError) => void;
}

/**
 * How long a call waits for an unavailable datastore; in the meantime Docker starts containers one at a time.
 * No call fails only because this host starts slowly: calls wait longer while the datastore is being read.
 */
const usualPatience = { awayMs: 4000, readingMs: 30_000 };
const pollMs = 100;

/**
 * Returns a function that creates a server of both plugin APIs. Servers differ in the scope that they report to
 * Docker: the plain sockets are always `local`.
 */
export function pluginServers(
  deps: PluginServersDeps,
): (scope: 'local' | 'global') => Promise<PluginServer> {
  const { network, ipam, log, metrics } = deps;
  const methods = whenReady(deps, {
    ...network,
    'IpamDriver.RequestPool': method(ipam.requestPool.schema, ipam.requestPool.answer),
    'IpamDriver.ReleasePool': method(ipam.releasePool.schema, ipam.releasePool.answer),
    'IpamDriver.RequestAddress': method(ipam.requestAddress.schema, ipam.requestAddress.answer),
    'IpamDriver.ReleaseAddress': method(ipam.releaseAddress.schema, ipam.releaseAddress.answer),
  });
  return (scope) =>
    createPluginServer({
      methods: {
        ...methods,
        ...networkCapabilities(scope),
        'Plugin.Activate': methodWithoutBody(() => {
          deps.onActivated();
          return { Implements: ['NetworkDriver', 'IpamDriver'] };
        }),
        'IpamDriver.GetCapabilities': methodWithoutBody(() => capabilities),
        'IpamDriver.GetDefaultAddressSpaces': methodWithoutBody(() => addressSpaces(scope)),
      },
      onCall: (call) => {
        logCall(log, call, deps.logsBodies);
        if (call.error !== undefined) deps.onRefused(call.callId, call.error);
        metrics.calls.inc({ method: call.method, outcome: call.error?.code ?? 'ok' });
        metrics.callSeconds.observe({ method: call.method }, call.durationMs / 1000);
      },
    });
}

/** Makes calls wait until the datastore has been read, up to a limit. */
function whenReady(
  { initialised, isAway, whyNotReady, patience = usualPatience }: PluginServersDeps,
  methods: Readonly<Record<string, Method>>,
): Readonly<Record<string, Method>> {
  let isReady = false;
  const done = initialised.then(() => (isReady = true));
  const ready = async (signal: AbortSignal): Promise<void> => {
    const came = performance.now();
    for (;;) {
      if (isReady) return;
      const waitedMs = performance.now() - came;
      if (signal.aborted || waitedMs > (isAway() ? patience.awayMs : patience.readingMs))
        throw whyNotReady();
      await Promise.race([done, pause(pollMs, signal)]);
    }
  };
  return Object.fromEntries(
    Object.entries(methods).map(([name, { takesBody, answer }]) => [
      name,
      {
        takesBody,
        answer: async (body: unknown, signal: AbortSignal) => {
          if (takesBody) await ready(signal);
          return answer(body, signal);
        },
      },
    ]),
  );
}

function logCall(log: Logger, call: CallRecord, logsBodies: boolean): void {
  const { method: name, callId, durationMs, error, asked, answered } = call;
  const facts = {
    method: name,
    call: callId,
    ms: durationMs.toFixed(1),
    ...(logsBodies ? { asked: JSON.stringify(asked), answered: JSON.stringify(answered) } : {}),
  };
  if (error === undefined) log.debug('call succeeded', facts);
  else log.warn('call failed', { ...facts, code: error.code, why: error.message });
}
