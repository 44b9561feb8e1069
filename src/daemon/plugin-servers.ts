import { withDeadline } from '../async/deadline.ts';
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
  /** What is told while it has not been. */
  readonly whyNotReady: (error: unknown) => CalicoError;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Told of Docker's first call to a plugin, which it makes once in its life. */
  readonly onActivated: () => void;
  /** Whether the log has what each call asked and was answered. */
  readonly logsBodies: boolean;
  /** Told of a call that was refused. */
  readonly onRefused: (callId: string, error: CalicoError) => void;
}

/** How long a call waits for the datastore to be read; Docker starts containers meanwhile, one at a time. */
const readyMs = 4000;

/**
 * What makes the servers of both plugin APIs. They differ in the scope that they tell Docker: the plain sockets
 * are always `local`.
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

/** Lets calls wait until the datastore has been read, but not for long. */
function whenReady(
  { initialised, whyNotReady }: PluginServersDeps,
  methods: Readonly<Record<string, Method>>,
): Readonly<Record<string, Method>> {
  const ready = async (signal: AbortSignal): Promise<void> => {
    try {
      await Promise.race([initialised, rejectAtEnd(withDeadline(signal, readyMs))]);
    } catch (error) {
      throw whyNotReady(error);
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

function rejectAtEnd(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('too late')), { once: true });
  });
}

function logCall(log: Logger, call: CallRecord, logsBodies: boolean): void {
  const { method: name, callId, durationMs, error, asked, answered } = call;
  const facts = {
    method: name,
    call: callId,
    ms: durationMs.toFixed(1),
    ...(logsBodies ? { asked: JSON.stringify(asked), answered: JSON.stringify(answered) } : {}),
  };
  if (error === undefined) log.debug('call answered', facts);
  else log.warn('call refused', { ...facts, code: error.code, why: error.message });
}
