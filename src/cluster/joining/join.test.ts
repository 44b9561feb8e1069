import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import type { Datastore } from '../../datastore/datastore.ts';
import { openSqliteStore } from '../../datastore/sqlite-store.ts';
import { isCalicoError } from '../../errors/error.ts';
import { parseCidr } from '../../ip/cidr.ts';
import {
  clusterPaths,
  readClusterFile,
  writeClusterFile,
  writePem,
  type ClusterPaths,
} from '../cluster-file.ts';
import { createAuthority, createRequest, renewAuthority, type KeyPair } from '../pki/authority.ts';
import { issueKeyPair } from '../pki/key-pair.fixture.ts';
import { fingerprint, isSignedBy, readCertificate } from '../pki/certificate.ts';
import { commonNames } from '../pki/common-names.ts';
import { keyIn } from '../pki/own-certificates.ts';
import { readClusterRecords, updateHost } from '../records.ts';
import { createToken, parseToken } from '../tokens.ts';
import { issueNodeCertificate, type AdmissionDeps } from './admission.ts';
import { send, type JoinServer as Address } from './connection.ts';
import { startJoinServer, type JoinServer } from './join-server.ts';
import { bringMemberFiles, removeMemberFiles, renewCertificates } from './member-files.ts';
import { joinCluster, type JoinDeps, type JoinOptions } from './join.ts';
import {
  emptyResponse,
  joinResponse,
  memberResponse,
  paths as requests,
  renewResponse,
  tokenResponse,
} from './protocol.ts';
import { itemOf } from './stored-items.fixture.ts';

const signal = AbortSignal.timeout(600_000);
const host = (name: string) => ({
  bootId: name,
  networkNamespace: name,
  machineId: name,
  macs: [],
});
const pool = (cidr: string, blockSize: number) =>
  itemOf('IPPool', 'p', {
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'p' },
    spec: { cidr: parseCidr(cidr), blockSize },
  });

/** A step that fails in the middle, as a killed process. */
class Killed extends Error {}

describe('joining a cluster', () => {
  let folder: string;
  let authority: KeyPair;
  let store: Datastore;
  let server: JoinServer;
  let address: Address;
  let calls: string[];
  let failing: string | undefined;
  let counter = 0;

  const act = async (name: string): Promise<void> => {
    calls.push(name);
    if (failing === name) throw new Killed(name);
  };

  before(async () => {
    folder = mkdtempSync(joinPath(tmpdir(), 'calico-join-'));
    authority = await createAuthority(new Date());
    store = await openSqliteStore(':memory:');
    const { key, value } = pool('10.65.0.0/16', 26);
    await store.commit({ compares: [{ key, modRevision: 0n }], writes: [{ key, value }] }, signal);
    const identity = await issueKeyPair(
      authority,
      { usage: 'server', commonName: commonNames.server, names: ['192.0.2.1'] },
      new Date(),
    );
    const deps: AdmissionDeps = {
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
    };
    writeFileSync(joinPath(folder, 'server.crt'), identity.certificate);
    writeFileSync(joinPath(folder, 'server.key'), identity.key);
    server = await startJoinServer(
      {
        ...deps,
        leave: async (node) => {
          await act(`leave ${node}`);
        },
        onRejected: () => undefined,
      },
      {
        identity: { ...identity, authority: authority.certificate },
        port: 0,
        host: '127.0.0.1',
      },
    );
    address = { host: '127.0.0.1', port: server.port };
  });
  after(async () => {
    await server.close();
    await store.close();
    rmSync(folder, { recursive: true });
  });
  beforeEach(() => {
    calls = [];
    failing = undefined;
  });

  const newToken = async (now = new Date()) => {
    const { token } = await createToken(store, {
      fingerprint: fingerprint(authority.certificate),
      now,
      signal,
    });
    return parseToken(token);
  };
  const newHost = (more: Partial<JoinDeps> = {}) => {
    const node = `host-${++counter}`;
    const paths = clusterPaths({ datastoreFile: joinPath(folder, node, 'calico.db') });
    const deps: JoinDeps = {
      paths,
      island: async () => ({
        node,
        host: host(node),
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
  const options = async (node: string, more: Partial<JoinOptions> = {}): Promise<JoinOptions> => ({
    node,
    server: address,
    token: await newToken(),
    isClientOnly: false,
    ...more,
  });
  const rejected = (code: Parameters<typeof isCalicoError>[1], words: RegExp) => (error: unknown) =>
    isCalicoError(error, code ?? 'cluster/rejected') && words.test(error.message);
  const nodeProof = async (paths: ClusterPaths) => ({
    certificate: readFileSync(paths.nodeCert, 'utf8'),
    key: await keyIn(paths.nodeKey),
  });

  test('a host gets its own certificate, is recorded as a client, and moves its data', async () => {
    const { node, paths, deps } = newHost();
    const wanted = await options(node);
    assert.deepEqual(await joinCluster(wanted, deps), { kind: 'joined' });
    assert.deepEqual(calls, ['prepare', `admit ${node}`, 'move', `moved ${node}`]);
    const file = readClusterFile(paths);
    assert.deepEqual(file, {
      uid: 'cluster-1',
      node,
      part: 'client',
      state: 'joined',
      endpoints: ['https://192.0.2.1:2379'],
    });
    const certificate = readFileSync(paths.nodeCert, 'utf8');
    assert.ok(isSignedBy(certificate, authority.certificate));
    assert.equal(readCertificate(certificate).commonName, `node.${node}`);
    assert.ok(!existsSync(paths.caKey) && !existsSync(paths.adminKey));
    const { hosts } = await readClusterRecords(store, signal);
    assert.equal(hosts.find((one) => one.node === node)?.record.wanted, 'client');
    assert.deepEqual(await joinCluster(wanted, deps), { kind: 'already joined' });
    await assert.rejects(
      joinCluster({ ...wanted, token: { ...wanted.token, fingerprint: 'x'.repeat(43) } }, deps),
      rejected('cluster/other-cluster', /leave it first/),
    );
  });

  test('interrupted at each of its steps it goes on when it is run again', async () => {
    const steps = ['prepare', 'admit', 'move', 'moved'];
    for (const step of steps) {
      const { node, paths, deps } = newHost();
      const wanted = await options(node);
      failing = ['admit', 'moved'].includes(step) ? `${step} ${node}` : step;
      await assert.rejects(joinCluster(wanted, deps));
      assert.notEqual(readClusterFile(paths)?.state, 'joined');
      failing = undefined;
      assert.deepEqual(await joinCluster(wanted, deps), { kind: 'joined' }, step);
      assert.equal(readClusterFile(paths)?.state, 'joined');
    }
  });

  test('a host whose data has moved is not compared with the cluster again', async () => {
    const first = newHost();
    const wanted = await options(first.node);
    failing = `moved ${first.node}`;
    await assert.rejects(joinCluster(wanted, first.deps));
    failing = undefined;
    calls = [];
    const island = () => Promise.reject(new Error('compared'));
    const again = { ...first.deps, island, isMoved: async () => true };
    assert.deepEqual(await joinCluster(wanted, again), { kind: 'joined' });
    assert.deepEqual(calls, ['move', `moved ${first.node}`]);
  });

  test('conflicts are returned before anything changes, and leave the token unused', async () => {
    const { node, paths, deps } = newHost();
    const island = async () => ({ ...(await deps.island()), items: [pool('10.65.0.0/16', 24)] });
    const wanted = await options(node);
    const outcome = await joinCluster(wanted, { ...deps, island });
    assert.equal(outcome.kind, 'conflicts');
    assert.deepEqual(
      [outcome.kind === 'conflicts' && outcome.conflicts.map(({ about }) => about), calls],
      [['pool'], []],
    );
    assert.equal(readClusterFile(paths), undefined);
    assert.deepEqual(await joinCluster(wanted, deps), { kind: 'joined' });
  });

  test('conflicts that arise after the comparison are found when the host is admitted', async () => {
    const { node, paths, deps } = newHost();
    const wanted = await options(node);
    const island = async () => ({ ...(await deps.island()), items: [pool('10.65.0.0/16', 24)] });
    const outcome = await send(address, {
      authority: authority.certificate,
      proof: { token: wanted.token, join: 'a'.repeat(32) },
      path: requests.join,
      body: {
        ...(await island()),
        request: await createRequest(await keyIn(paths.nodeKey)),
        isClientOnly: true,
      },
      response: joinResponse,
    });
    assert.equal(outcome.kind, 'checked');
    assert.deepEqual(calls, []);
    assert.deepEqual(await joinCluster(wanted, deps), { kind: 'joined' }, 'the token is unused');
  });

  test('a server of another cluster gets no secret', async () => {
    const { node, paths, deps } = newHost();
    const wanted = await options(node);
    const other = { ...wanted, token: { ...wanted.token, fingerprint: 'y'.repeat(43) } };
    await assert.rejects(
      joinCluster(other, deps),
      rejected('cluster/other-authority', /fingerprint/),
    );
    assert.equal(readClusterFile(paths), undefined);
  });

  test('a host that was removed, or whose certificate has expired, joins again with a new token', async () => {
    const { node, paths, deps } = newHost();
    await joinCluster(await options(node), deps);
    // Its daemon reported while it was there.
    const report = { time: '', uptime: 0, first_update: true, host: host(node) };
    const { key, value } = itemOf('NodeReport', `${node}/last_reported_status`, report);
    await store.commit({ compares: [{ key, modRevision: 0n }], writes: [{ key, value }] }, signal);
    const again = async () => {
      calls = [];
      return joinCluster(await options(node), {
        ...deps,
        // What its own datastore had when it joined.
        island: async () => ({ ...(await deps.island()), items: [pool('10.65.0.0/16', 24)] }),
      });
    };
    assert.deepEqual(await again(), { kind: 'already joined' });
    await updateHost(store, node, (present) => present && { ...present, wanted: 'gone' }, signal);
    assert.deepEqual(await again(), { kind: 'joined' });
    assert.ok(calls.includes(`admit ${node}`));
    const old = await issueNodeCertificate(
      { authority: () => authority, now: () => new Date(Date.now() - 400 * 86_400_000) },
      { node, request: await createRequest(await keyIn(paths.nodeKey)) },
    );
    writePem(paths.nodeCert, old);
    assert.deepEqual(await again(), { kind: 'joined' });
    const { notAfter } = readCertificate(readFileSync(paths.nodeCert, 'utf8'));
    assert.ok(notAfter.getTime() > Date.now());
    const stranger = newHost();
    const taken = {
      ...stranger.deps,
      island: async () => ({ ...(await stranger.deps.island()), node }),
    };
    await assert.rejects(
      joinCluster(await options(node), taken),
      rejected(
        'cluster/rejected',
        /a host with node name host-\d+ has joined the cluster; remove it/,
      ),
    );
  });

  test('a host with the name and the identity of another one, but not with its key, is refused', async () => {
    const victim = newHost();
    const known = await options(victim.node);
    await joinCluster(known, victim.deps);
    const report = { time: '', uptime: 0, first_update: true, host: host(victim.node) };
    const { key, value } = itemOf('NodeReport', `${victim.node}/last_reported_status`, report);
    await store.commit({ compares: [{ key, modRevision: 0n }], writes: [{ key, value }] }, signal);
    const { paths, deps } = newHost();
    const wanted = await options(victim.node);
    const forged = { ...deps, island: victim.deps.island };
    calls = [];
    const refused = rejected('cluster/rejected', /has joined the cluster; remove it on a member/);
    await assert.rejects(joinCluster(wanted, forged), refused);
    assert.deepEqual(calls, ['prepare'], 'no user was changed, and no certificate issued');
    assert.ok(!existsSync(paths.nodeCert));
    const other = newHost();
    const joined = await joinCluster({ ...wanted, node: other.node }, other.deps);
    assert.deepEqual(joined, { kind: 'joined' }, 'the token is unused');
  });

  test('one sender has 32 connections at a time, and others connect meanwhile', async () => {
    const sockets = Array.from({ length: 40 }, () =>
      connect({ ...address, localAddress: '127.0.0.4' }).on('error', () => undefined),
    );
    const open = () => sockets.filter((socket) => !socket.closed).length;
    for (const socket of sockets) socket.resume();
    while (open() > 32) await sleep(5);
    assert.equal(open(), 32);
    const { node, deps } = newHost();
    assert.deepEqual(await joinCluster(await options(node), deps), { kind: 'joined' });
    for (const socket of sockets) socket.destroy();
  });

  test('connections that say nothing neither keep others out nor stay', async () => {
    const slow = await startFake(
      readFileSync(joinPath(folder, 'server.crt'), 'utf8'),
      readFileSync(joinPath(folder, 'server.key'), 'utf8'),
      500,
    );
    const { port } = slow;
    const closed: Promise<unknown>[] = [];
    const begin = (socket: Socket) => {
      socket.on('error', () => undefined);
      const { promise, resolve } = Promise.withResolvers<void>();
      closed.push(promise);
      socket.once('close', () => resolve());
    };
    try {
      for (let count = 0; count < 20; count++) {
        begin(connect({ host: '127.0.0.1', port, localAddress: '127.0.0.2' }).resume());
        const plain = connect({ host: '127.0.0.1', port, localAddress: '127.0.0.3' });
        begin(plain);
        connectTls({ socket: plain, rejectUnauthorized: false })
          .on('error', () => undefined)
          .resume();
      }
      const answer = send(
        { host: '127.0.0.1', port },
        {
          authority: authority.certificate,
          proof: { token: await newToken(), join: 'a'.repeat(32) },
          path: requests.token,
          body: {},
          response: tokenResponse,
        },
      );
      assert.deepEqual(await answer, { uid: 'fake' });
      // The server ends them: those without a handshake, and those without a request.
      await Promise.all(closed);
    } finally {
      await slow.close();
    }
  });

  test('a host renews its certificate, and gets the key of the authority only as a member', async () => {
    const { node, paths } = await joinedHost();
    const { node: other } = await joinedHost();
    const ask = async (path: string, body: object) => ({
      authority: authority.certificate,
      proof: await nodeProof(paths),
      path,
      body,
    });
    const request = await createRequest(await keyIn(paths.nodeKey));
    const renewed = await send(address, {
      ...(await ask(requests.renew, { node, request })),
      response: renewResponse,
    });
    assert.equal(readCertificate(renewed.certificate).commonName, `node.${node}`);
    await assert.rejects(
      send(address, {
        ...(await ask(requests.renew, { node: other, request })),
        response: renewResponse,
      }),
      rejected('cluster/rejected', /not a host of this cluster/),
    );
    const member = async () =>
      send(address, { ...(await ask(requests.member, { node })), response: memberResponse });
    await assert.rejects(member(), rejected('cluster/rejected', /not to be a member/));
    await updateHost(store, node, (present) => present && { ...present, wanted: 'member' }, signal);
    assert.equal((await member()).caKey, authority.key);
    await updateHost(store, node, (present) => present && { ...present, wanted: 'gone' }, signal);
    await assert.rejects(member(), rejected('cluster/rejected', /not a host of this cluster/));
  });

  test('a client renews its certificate at any member, also when the first one is lost', async () => {
    const { node, paths } = await joinedHost();
    const endpoints = ['https://127.0.0.2:2379', 'https://127.0.0.1:2379'];
    const file = { uid: 'cluster-1', node, part: 'client' as const, state: 'joined' as const };
    writePem(paths.ca, authority.certificate);
    writeClusterFile(paths, { ...file, endpoints });
    const renew = (now: Date) =>
      renewCertificates({ paths, node, names: [], now, port: server.port });
    const before = readFileSync(paths.nodeCert, 'utf8');
    const days = (count: number) => new Date(Date.now() + count * 86_400_000);
    assert.deepEqual(await renew(days(0)), []);
    // The members have renewed the certificate of the authority since.
    writePem(paths.ca, await renewAuthority(authority, days(-3)));
    assert.deepEqual(await renew(days(300)), [paths.nodeCert]);
    assert.equal(readFileSync(paths.ca, 'utf8'), authority.certificate);
    const renewed = readFileSync(paths.nodeCert, 'utf8');
    assert.notEqual(renewed, before);
    assert.ok(isSignedBy(renewed, authority.certificate));
    writeClusterFile(paths, { ...file, endpoints: endpoints.slice(0, 1) });
    await assert.rejects(renew(days(300)), rejected('cluster/unreachable', /127\.0\.0\.2/));
  });

  test('a host that becomes a member gets the key of the authority and its certificates, and loses them', async () => {
    const { node, paths } = await joinedHost();
    const file = { uid: 'cluster-1', node, part: 'client' as const, state: 'joined' as const };
    writePem(paths.ca, authority.certificate);
    writeClusterFile(paths, { ...file, endpoints: ['https://127.0.0.1:2379'] });
    const files = { paths, node, names: ['192.0.2.2'], now: new Date(), port: server.port };
    await assert.rejects(
      bringMemberFiles(files),
      rejected('cluster/rejected', /not to be a member/),
    );
    assert.ok(!existsSync(paths.caKey));
    await updateHost(store, node, (present) => present && { ...present, wanted: 'member' }, signal);
    await bringMemberFiles(files);
    await bringMemberFiles(files);
    const { names } = readCertificate(readFileSync(paths.serverCert, 'utf8'));
    assert.ok(names.includes('192.0.2.2'));
    assert.deepEqual(await renewCertificates(files), []);
    const moved = { ...files, names: ['192.0.2.3'] };
    assert.deepEqual(await renewCertificates(moved), [paths.serverCert, paths.peerCert]);
    const late = { ...moved, now: new Date(Date.now() + 8 * 365 * 86_400_000) };
    const renewed = await renewCertificates(late);
    assert.ok(renewed.includes(paths.ca) && renewed.includes(paths.serverCert), renewed.join());
    const ca = readFileSync(paths.ca, 'utf8');
    assert.equal(fingerprint(ca), fingerprint(authority.certificate));
    assert.ok(isSignedBy(readFileSync(paths.serverCert, 'utf8'), ca));
    assert.deepEqual(await renewCertificates(late), []);
    removeMemberFiles(paths);
    for (const file of [paths.caKey, paths.adminKey, paths.adminCert, paths.serverKey]) {
      assert.ok(!existsSync(file), file);
    }
    assert.ok(existsSync(paths.nodeKey));
  });

  test('without a certificate of the cluster a host of it is not believed', async () => {
    const stranger = await createAuthority(new Date());
    const { node } = await joinedHost();
    const forged = await issueKeyPair(
      stranger,
      { usage: 'client', commonName: `node.${node}` },
      new Date(),
    );
    await assert.rejects(
      send(address, {
        authority: authority.certificate,
        proof: forged,
        path: requests.leave,
        body: { node },
        response: emptyResponse,
      }),
      rejected('cluster/rejected', /no certificate of a host/),
    );
    assert.ok(!calls.includes(`leave ${node}`));
  });

  test('a certificate of a node is no certificate of a server', async () => {
    const { paths, node } = await joinedHost();
    const { certificate, key } = await nodeProof(paths);
    const fake = await startFake(certificate, key);
    try {
      const sending = send(
        { host: '127.0.0.1', port: fake.port },
        {
          authority: authority.certificate,
          proof: { certificate, key },
          path: requests.renew,
          body: { node },
          response: emptyResponse,
        },
      );
      await assert.rejects(sending, rejected('cluster/other-authority', /is not a member/));
    } finally {
      await fake.close();
    }
  });

  test('an expired token is refused, and a member that this host takes for one of another time', async () => {
    const { node, paths, deps } = newHost();
    const hours = (count: number) => new Date(Date.now() + count * 3_600_000);
    await assert.rejects(
      joinCluster(await options(node, { token: await newToken(hours(-2)) }), deps),
      rejected('cluster/rejected', /because it has expired; create another one on a member/),
    );
    const future = await issueKeyPair(
      authority,
      { usage: 'server', commonName: commonNames.server, names: ['127.0.0.1'] },
      hours(24 * 3),
    );
    const fake = await startFake(future.certificate, future.key);
    try {
      const server = { host: '127.0.0.1', port: fake.port };
      await assert.rejects(
        joinCluster(await options(node, { server }), deps),
        rejected('cluster/not-valid-now', /, the time of this host; set the clocks of both hosts/),
      );
    } finally {
      await fake.close();
    }
    assert.equal(readClusterFile(paths), undefined);
    assert.deepEqual(calls, []);
  });

  test('a token that another host has used, or that is wrong, is rejected; guessing is limited', async () => {
    const first = newHost();
    const second = newHost();
    const wanted = await options(first.node);
    await joinCluster(wanted, first.deps);
    await assert.rejects(
      joinCluster({ ...wanted, node: second.node }, second.deps),
      rejected('cluster/rejected', /another host has used it; create another one/),
    );
    const wrong = { ...wanted.token, secret: 'x'.repeat(22) };
    const guess = () => joinCluster({ ...wanted, node: second.node, token: wrong }, second.deps);
    // The expired token of the test before and the used one count as well.
    for (let attempt = 0; attempt < 3; attempt++) {
      await assert.rejects(guess(), rejected('cluster/rejected', /does not know this token/));
    }
    await assert.rejects(guess(), rejected('cluster/rejected', /too many wrong tokens/));
    assert.equal(readClusterFile(second.paths), undefined);
  });

  /** A host of the cluster, without the requests of a join. */
  async function joinedHost() {
    const made = newHost();
    const { node, paths } = made;
    const key = await keyIn(paths.nodeKey);
    const certificate = await issueNodeCertificate(
      { authority: () => authority, now: () => new Date() },
      { node, request: await createRequest(key) },
    );
    writePem(paths.nodeCert, certificate);
    await updateHost(
      store,
      node,
      () => ({ address: '192.0.2.2', joined: '', wanted: 'client', attempt: 0 }),
      signal,
    );
    return made;
  }

  async function startFake(
    certificate: string,
    key: string,
    introductionMs?: number,
  ): Promise<JoinServer> {
    return startJoinServer(
      {
        uid: 'fake',
        datastore: store,
        authority: () => authority,
        endpoints: async () => [],
        users: { admit: async () => undefined, moved: async () => undefined },
        now: () => new Date(),
        ownCopies: async () => new Set(),
        collisions: async () => [],
        leave: async () => undefined,
        onRejected: () => undefined,
      },
      {
        identity: { certificate, key, authority: authority.certificate },
        port: 0,
        host: '127.0.0.1',
        ...(introductionMs === undefined ? {} : { introductionMs }),
      },
    );
  }
});
