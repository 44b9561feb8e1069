import { request as sendHttp } from 'node:http';
import { request as sendHttps } from 'node:https';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import Docker from 'dockerode';
import senders from 'docker-modem/lib/http.js';
import { z } from 'zod';
import { orAborted } from '../../async/deadline.ts';
import { CalicoError, describe } from '../../errors/error.ts';
import { firstIssue } from '../../model/issues.ts';
import { EngineProcess } from './engine-process.ts';
import {
  containerList,
  containerNames,
  containerStart,
  engineInfo,
  event,
  networkDetailsList,
  networkInfo,
  networkList,
  pluginList,
  serviceList,
  type ContainerInfo,
  type DockerEvent,
  type Engine,
  type NetworkDetails,
  type NetworkInfo,
  type ServiceInfo,
} from './messages.ts';
import { SharedRequests } from './shared-requests.ts';

/**
 * The requests to Docker. Any request may hang while dockerd boots, so each has a deadline, and a request that still
 * hangs is not sent a second time: later callers wait until it returns. Container inspect waits for the lock of a
 * starting container, so plugin calls never use it.
 */
export interface DockerApi {
  readonly address: string;

  /** Identifies the engine. */
  engine(signal: AbortSignal): Promise<Engine>;

  /** One network with its endpoints; `undefined` if it does not exist. */
  network(id: string, signal: AbortSignal): Promise<NetworkInfo | undefined>;

  /** All networks, without their endpoints. */
  networks(signal: AbortSignal): Promise<readonly NetworkInfo[]>;

  /** All networks, with everything that was given when they were created. */
  networkDetails(signal: AbortSignal): Promise<readonly NetworkDetails[]>;

  /**
   * Creates a network; returns its ID. It waits for the plugin: do not use in plugin calls. Docker up to 24 may create
   * several of one name. Throws `docker/refused`, in Docker's words.
   */
  createNetwork(network: NewNetwork, signal: AbortSignal): Promise<string>;

  /** Removes a network by its ID; no-op if it does not exist. Throws `docker/refused`, as while containers use it. */
  removeNetwork(id: string, signal: AbortSignal): Promise<void>;

  /** Names of the enabled managed plugins, with their tags. */
  enabledPlugins(signal: AbortSignal): Promise<readonly string[]>;

  /** The enabled managed plugins that are calico-cnm, by their description (config.json). */
  calicoPlugins(signal: AbortSignal): Promise<readonly string[]>;

  /** The services of the swarm; an error unless this host is a manager. */
  services(signal: AbortSignal): Promise<readonly ServiceInfo[]>;

  /** All containers, running or not. */
  containers(signal: AbortSignal): Promise<readonly ContainerInfo[]>;

  /** The containers that have never started, or are starting for the first time. */
  newContainers(signal: AbortSignal): Promise<readonly ContainerInfo[]>;

  /** The container of exactly this name. */
  containerNamed(name: string, signal: AbortSignal): Promise<ContainerInfo | undefined>;

  /**
   * The result of a container's last start; `undefined` if the container does not exist. May wait for the container's
   * lock: do not use in plugin calls.
   */
  lastStart(id: string, signal: AbortSignal): Promise<LastStart | undefined>;

  /**
   * The names of a container on each of its networks, by endpoint ID; none if it does not exist. May wait for the
   * container's lock, as `lastStart`.
   */
  endpointNames(id: string, signal: AbortSignal): Promise<ReadonlyMap<string, readonly string[]>>;

  /** Starts a container; no-op if it is running. */
  start(id: string, signal: AbortSignal): Promise<void>;

  /** Network and container events from the moment this resolves; ends when the connection does. */
  events(signal: AbortSignal): Promise<AsyncIterable<DockerEvent>>;
}

/** A network to create, in the terms of Docker's API. */
export interface NewNetwork {
  readonly Name: string;
  readonly Driver: string;
  readonly Internal: boolean;
  readonly EnableIPv6: boolean;
  readonly IPAM: Docker.IPAM;
  readonly Options: Record<string, string>;
  readonly Labels: Record<string, string>;
}

/** The result of a container's last start, as Docker reports it. */
export interface LastStart {
  readonly name: string;
  /** Empty if it did not fail. */
  readonly error: string;
  readonly hasRestartPolicy: boolean;
}

// Docker redirects only malformed paths (`/networks/../x`). Its client library would follow to any host, by a request
// whose errors nobody handles; Node's own functions follow to none.
senders.http = { request: sendHttp };
senders.https = { request: sendHttps };

/** The form of IDs and names in Docker; nothing else may become part of a path of its API. */
const idForm = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

/**
 * Creates a client of the engine at `unix:///path`, `tcp://host:port` or `http(s)://host:port`. No version is pinned.
 */
export function createDockerApi(address: string): DockerApi {
  const docker = new Docker(connection(address));
  const questions = new SharedRequests();
  const engine = address.startsWith('unix://') ? new EngineProcess() : undefined;
  const checkEngine = () => {
    if (engine?.mayBeAsked() === false) {
      throw new CalicoError('docker/unavailable', { address, why: 'dockerd is not running' });
    }
  };

  const ask = async <S extends z.ZodType>(
    question: { readonly what: string; readonly schema: S; readonly send: () => Promise<unknown> },
    signal: AbortSignal,
  ): Promise<z.infer<S>> => {
    const { what, schema, send } = question;
    checkEngine();
    const answer = await orAborted(questions.ask(what, send), signal).catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      throw new CalicoError(
        'docker/unavailable',
        { address, why: describe(error) },
        { cause: error },
      );
    });
    const result = schema.safeParse(answer);
    if (result.success) return result.data;
    const { field, why } = firstIssue(result.error);
    throw new CalicoError('docker/bad-answer', { what, why: `${field}: ${why}` });
  };

  const plugins = async (signal: AbortSignal) => {
    const question = { what: 'plugins', schema: pluginList, send: () => docker.listPlugins() };
    return (await ask(question, signal)).filter(({ Enabled }) => Enabled);
  };

  const change = async <Answer>(what: string, send: () => Promise<Answer>): Promise<Answer> => {
    checkEngine();
    return send().catch((error: unknown) => {
      const why = refusal(error);
      throw why === undefined
        ? new CalicoError('docker/unavailable', { address, why: describe(error) }, { cause: error })
        : new CalicoError('docker/refused', { what, why }, { cause: error });
    });
  };

  const listContainers = (filters: Readonly<Record<string, string[]>>, signal: AbortSignal) =>
    ask(
      {
        what: `containers ${JSON.stringify(filters)}`,
        schema: containerList,
        send: () => docker.listContainers({ all: true, filters }),
      },
      signal,
    );

  return {
    address,
    engine: (signal) =>
      ask({ what: 'info', schema: engineInfo, send: () => docker.info() }, signal),
    network: (id, signal) =>
      ask(
        {
          what: `network ${id}`,
          schema: networkInfo.optional(),
          // Docker knows no invalid ID.
          send: async () => (idForm.test(id) ? docker.getNetwork(id).inspect() : undefined),
        },
        signal,
      ),
    networks: (signal) =>
      ask({ what: 'networks', schema: networkList, send: () => docker.listNetworks() }, signal),
    networkDetails: (signal) =>
      ask(
        { what: 'networks', schema: networkDetailsList, send: () => docker.listNetworks() },
        signal,
      ),
    createNetwork: async (network, signal) => {
      const what = `network ${network.Name}`;
      const send = () =>
        docker.createNetwork({ ...network, CheckDuplicate: true, abortSignal: signal });
      return (await change(what, send)).id;
    },
    removeNetwork: async (id, signal) => {
      const ignored = (error: unknown) => {
        if (!isNotFound(error)) throw error;
      };
      const send = () => docker.getNetwork(id).remove({ abortSignal: signal }).catch(ignored);
      await change(`removal of network ${id.slice(0, 12)}`, send);
    },
    enabledPlugins: async (signal) => (await plugins(signal)).map(({ Name }) => Name),
    calicoPlugins: async (signal) =>
      (await plugins(signal))
        .filter(({ Config }) => Config?.Description?.startsWith('calico-cnm:') === true)
        .map(({ Name }) => Name),
    services: (signal) =>
      ask({ what: 'services', schema: serviceList, send: () => docker.listServices() }, signal),
    containers: (signal) => listContainers({}, signal),
    newContainers: (signal) => listContainers({ status: ['created'] }, signal),
    containerNamed: async (name, signal) => {
      const pattern = `^/${name.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)}$`;
      const found = await listContainers({ name: [pattern] }, signal);
      return found.find(({ Names }) => Names.includes(`/${name}`));
    },
    lastStart: async (id, signal) => {
      const found = await ask(
        {
          what: `container ${id}`,
          schema: containerStart.optional(),
          send: async () => (idForm.test(id) ? docker.getContainer(id).inspect() : undefined),
        },
        signal,
      );
      return found === undefined
        ? undefined
        : {
            name: found.Name.slice(1),
            error: found.State.Error,
            hasRestartPolicy: !['', 'no'].includes(found.HostConfig.RestartPolicy.Name),
          };
    },
    endpointNames: async (id, signal) => {
      const found = await ask(
        {
          what: `names of container ${id}`,
          schema: containerNames.optional(),
          send: async () => (idForm.test(id) ? docker.getContainer(id).inspect() : undefined),
        },
        signal,
      );
      const networks = Object.values(found?.NetworkSettings.Networks ?? {});
      return new Map(
        networks.flatMap(({ EndpointID: endpoint = '', DNSNames, Aliases }) =>
          endpoint === '' ? [] : [[endpoint, DNSNames ?? Aliases ?? []] as const],
        ),
      );
    },
    start: async (id, signal) => {
      checkEngine();
      const started = docker.getContainer(id).start({ abortSignal: signal });
      await started.catch((error: unknown) => {
        throw new CalicoError(
          'docker/unavailable',
          { address, why: describe(error) },
          { cause: error },
        );
      });
    },
    events: async (signal) => {
      checkEngine();
      return readEvents(await openEvents(docker, address, signal), signal);
    },
  };
}

function openEvents(
  docker: Docker,
  address: string,
  signal: AbortSignal,
): Promise<NodeJS.ReadableStream> {
  return docker
    .getEvents({ filters: { type: ['network', 'container'] }, abortSignal: signal })
    .catch((error: unknown) => {
      throw new CalicoError(
        'docker/unavailable',
        { address, why: describe(error) },
        { cause: error },
      );
    });
}

async function* readEvents(
  stream: NodeJS.ReadableStream,
  signal: AbortSignal,
): AsyncGenerator<DockerEvent> {
  const input = new Readable().wrap(stream);
  const lines = createInterface({ input });
  // The lines of a destroyed input would never end.
  const stop = () => {
    lines.close();
    input.destroy();
  };
  signal.addEventListener('abort', stop);
  try {
    for await (const line of lines) {
      const result = event.safeParse(JSON.parse(line));
      if (result.success) yield result.data;
    }
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
  }
}

/** Returns Docker's own words if it has rejected a request. */
function refusal(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('statusCode' in error)) return undefined;
  const answer = refusalForm.safeParse(error);
  return answer.success ? answer.data.json.message : describe(error);
}

const refusalForm = z.object({ json: z.object({ message: z.string() }) });

function isNotFound(error: unknown): boolean {
  return error instanceof Error && 'statusCode' in error && error.statusCode === 404;
}

function connection(address: string): Docker.DockerOptions {
  if (address.startsWith('unix://')) return { socketPath: address.slice('unix://'.length) };
  const url = new URL(address.replace(/^tcp:/, 'http:'));
  return {
    protocol: url.protocol === 'https:' ? 'https' : 'http',
    host: url.hostname,
    port: url.port === '' ? 2375 : Number(url.port),
  };
}
