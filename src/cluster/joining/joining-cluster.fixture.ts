import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Datastore } from '../../datastore/datastore.ts';
import { openSqliteStore } from '../../datastore/sqlite-store.ts';
import { isCalicoError } from '../../errors/error.ts';
import { parseCidr } from '../../ip/cidr.ts';
import { clusterPaths, writePem, type ClusterPaths } from '../cluster-file.ts';
import { createAuthority, createRequest, type KeyPair } from '../pki/authority.ts';
import { fingerprint } from '../pki/certificate.ts';
import { commonNames } from '../pki/common-names.ts';
import { issueKeyPair } from '../pki/key-pair.fixture.ts';
import { keyIn } from '../pki/own-certificates.ts';
import { updateHost } from '../records.ts';
import { createToken, parseToken, type Token } from '../tokens.ts';
import { issueNodeCertificate } from './admission.ts';
import type { JoinServer as Address } from './connection.ts';
import type { JoinDeps, JoinOptions } from './join.ts';
import { startJoinServer, type JoinServer } from './join-server.ts';
import { itemOf } from './stored-items.fixture.ts';

const signal = AbortSignal.timeout(600_000);
/** How long the server is away when it restarts, in milliseconds. */
const awayMs = 400;

/** The identity of a host of the tests. */
export const hostCalled = (name: string) => ({
  bootId: name,
  networkNamespace: name,
  machineId: name,
  macs: [],
});

/** An IP pool as a datastore has it. */
export const storedPool = (cidr: string, blockSize: number) =>
  itemOf('IPPool', 'p', {
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'p' },
    spec: { cidr: parseCidr(cidr), blockSize },
  });

/** A step that fails in the middle, as a killed process. */
export class Killed extends Error {}

/** A host that joins, with the steps that it takes. */
export interface JoiningHost {
  readonly node: string;
  readonly paths: ClusterPaths;
  readonly deps: JoinDeps;
}

/** What hosts and member have done, and what fails. */
export interface Steps {
  /** The steps that were taken, on the member and on hosts that join. */
  calls: string[];
  /** The step that fails. */
  failing: string | undefined;
}

/** A member that serves joins, with a datastore in memory. */
export interface JoiningCluster extends AsyncDisposable {
  readonly folder: string;
  readonly authority: KeyPair;
  /** The certificate of the server, and its key. */
  readonly identity: KeyPair;
  readonly store: Datastore;
  readonly server: JoinServer;
  readonly address: Address;
  readonly steps: Steps;
  /** Ends the server, and starts it again after some time; resolves when it has ended. */
  readonly restart: () => Promise<void>;
  readonly newToken: (now?: Date) => Promise<Token>;
  /** A host that has not joined yet. */
  readonly newHost: (more?: Partial<JoinDeps>) => JoiningHost;
  /** The options of a join with a new token. */
  readonly options: (node: string, more?: Partial<JoinOptions>) => Promise<JoinOptions>;
  /** A host of the cluster, without the requests of a join. */
  readonly joinedHost: () => Promise<JoiningHost>;
}

export async function startJoiningCluster(): Promise<JoiningCluster> {
  const folder = mkdtempSync(joinPath(tmpdir(), 'calico-join-'));
  const authority = await createAuthority(new Date());
  const store = await openSqliteStore(':memory:');
  const { key, value } = storedPool('10.65.0.0/16', 26);
  await store.commit({ compares: [{ key, modRevision: 0n }], writes: [{ key, value }] }, signal);
  const identity = await issueKeyPair(
    authority,
    { usage: 'server', commonName: commonNames.server, names: ['192.0.2.1'] },
    new Date(),
  );
  const steps: Steps = { calls: [], failing: undefined };
  const act = async (name: string): Promise<void> => {
    steps.calls.push(name);
    if (steps.failing === name) throw new Killed(name);
  };
  const serve = (port: number) =>
    startJoinServer(
      {
        uid: 'cluster-1',
        datastore: store,
        authority: () => authority,
        endpoints: async () => ['https://192.0.2.1:2379'],
        users: {
          admit: (node) => act(`admit ${node}`),
          moved: (node) => act(`moved ${node}`),
        },
        now: () => new Date(),
        ownCopies: async () => new Set(),
        collisions: async () => [],
        leave: (node) => act(`leave ${node}`),
        onRejected: () => undefined,
      },
      { identity: { ...identity, authority: authority.certificate }, port, host: '127.0.0.1' },
    );
  const server = await serve(0);
  let serving: Promise<JoinServer> = Promise.resolve(server);
  const address = { host: '127.0.0.1', port: server.port };
  const newToken = async (now = new Date()) => {
    const { token } = await createToken(store, {
      fingerprint: fingerprint(authority.certificate),
      now,
      signal,
    });
    return parseToken(token);
  };
  let counter = 0;
  const newHost = (more: Partial<JoinDeps> = {}): JoiningHost => {
    const node = `host-${++counter}`;
    const paths = clusterPaths({ datastoreFile: joinPath(folder, node, 'calico.db') });
    const deps: JoinDeps = {
      paths,
      island: async () => ({
        node,
        host: hostCalled(node),
        time: new Date().toISOString(),
        items: [],
        address: '192.0.2.2',
      }),
      isMoved: async () => false,
      prepare: () => act('prepare'),
      move: () => act('move'),
      progress: () => undefined,
      ...more,
    };
    return { node, paths, deps };
  };
  return {
    folder,
    authority,
    identity,
    store,
    server,
    address,
    steps,
    restart: async () => {
      await (await serving).close();
      serving = sleep(awayMs).then(() => serve(server.port));
    },
    newToken,
    newHost,
    options: async (node, more = {}) => ({
      node,
      server: address,
      token: await newToken(),
      isClientOnly: false,
      ...more,
    }),
    joinedHost: async () => {
      const made = newHost();
      const { node, paths } = made;
      const certificate = await issueNodeCertificate(
        { authority: () => authority, now: () => new Date() },
        { node, request: await createRequest(await keyIn(paths.nodeKey)) },
      );
      writePem(paths.nodeCert, certificate);
      await updateHost(
        store,
        node,
        () => ({ address: '192.0.2.2', joined: '', wanted: 'client', attempt: 0 }),
        signal,
      );
      return made;
    },
    [Symbol.asyncDispose]: async () => {
      await (await serving).close();
      await store.close();
      rmSync(folder, { recursive: true });
    },
  };
}

/** Reports whether an error is this one, in these words. */
export const rejected =
  (code: Parameters<typeof isCalicoError>[1], words: RegExp) => (error: unknown) =>
    isCalicoError(error, code ?? 'cluster/rejected') && words.test(error.message);

/** The certificate of a node and its key, as a host proves who it is. */
export const nodeProof = async (paths: ClusterPaths) => ({
  certificate: readFileSync(paths.nodeCert, 'utf8'),
  key: await keyIn(paths.nodeKey),
});
