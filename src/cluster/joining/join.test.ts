import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import type { Datastore } from '../../datastore/datastore.ts';
import { readClusterFile, writeClusterFile, writePem } from '../cluster-file.ts';
import { createAuthority, createRequest, renewAuthority, type KeyPair } from '../pki/authority.ts';
import { issueKeyPair } from '../pki/key-pair.fixture.ts';
import { fingerprint, isSignedBy, readCertificate } from '../pki/certificate.ts';
import { commonNames } from '../pki/common-names.ts';
import { keyIn } from '../pki/own-certificates.ts';
import { readClusterRecords, updateHost } from '../records.ts';
import { issueNodeCertificate } from './admission.ts';
import { send, type JoinServer as Address } from './connection.ts';
import { startJoinServer, type JoinServer } from './join-server.ts';
import { bringMemberFiles, removeMemberFiles, renewCertificates } from './member-files.ts';
import { joinCluster, type JoinOptions } from './join.ts';
import {
  hostCalled,
  nodeProof,
  rejected,
  startJoiningCluster,
  storedPool,
  type JoiningCluster,
  type Steps,
} from './joining-cluster.fixture.ts';
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

describe('joining a cluster', () => {
  let cluster: JoiningCluster;
  let authority: KeyPair;
  let store: Datastore;
  let server: JoinServer;
  let address: Address;
  let steps: Steps;
  before(async () => {
    cluster = await startJoiningCluster();
    ({ authority, store, server, address, steps } = cluster);
  });
  after(() => cluster[Symbol.asyncDispose]());
  beforeEach(() => {
    steps.calls = [];
  });

  const newToken = (now?: Date) => cluster.newToken(now);
  const newHost = () => cluster.newHost();
  const joinedHost = () => cluster.joinedHost();
  const options = (node: string, more?: Partial<JoinOptions>) => cluster.options(node, more);

  test('a host gets its own certificate, is recorded as a client, and moves its data', async () => {
    const { node, paths, deps } = newHost();
    const wanted = await options(node);
    assert.deepEqual(await joinCluster(wanted, deps), { kind: 'joined' });
    assert.deepEqual(steps.calls, ['prepare', `admit ${node}`, 'move', `moved ${node}`]);
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

  test('conflicts are returned before anything changes, and leave the token unused', async () => {
    const { node, paths, deps } = newHost();
    const island = async () => ({
      ...(await deps.island()),
      items: [storedPool('10.65.0.0/16', 24)],
    });
    const wanted = await options(node);
    const outcome = await joinCluster(wanted, { ...deps, island });
    assert.equal(outcome.kind, 'conflicts');
    assert.deepEqual(
      [outcome.kind === 'conflicts' && outcome.conflicts.map(({ about }) => about), steps.calls],
      [['pool'], []],
    );
    assert.equal(readClusterFile(paths), undefined);
    assert.deepEqual(await joinCluster(wanted, deps), { kind: 'joined' });
  });

  test('conflicts that arise after the comparison are found when the host is admitted', async () => {
    const { node, paths, deps } = newHost();
    const wanted = await options(node);
    const island = async () => ({
      ...(await deps.island()),
      items: [storedPool('10.65.0.0/16', 24)],
    });
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
    assert.deepEqual(steps.calls, []);
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
    const report = { time: '', uptime: 0, first_update: true, host: hostCalled(node) };
    const { key, value } = itemOf('NodeReport', `${node}/last_reported_status`, report);
    await store.commit({ compares: [{ key, modRevision: 0n }], writes: [{ key, value }] }, signal);
    const again = async () => {
      steps.calls = [];
      return joinCluster(await options(node), {
        ...deps,
        // What its own datastore had when it joined.
        island: async () => ({ ...(await deps.island()), items: [storedPool('10.65.0.0/16', 24)] }),
      });
    };
    assert.deepEqual(await again(), { kind: 'already joined' });
    await updateHost(store, node, (present) => present && { ...present, wanted: 'gone' }, signal);
    assert.deepEqual(await again(), { kind: 'joined' });
    assert.ok(steps.calls.includes(`admit ${node}`));
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
    const report = { time: '', uptime: 0, first_update: true, host: hostCalled(victim.node) };
    const { key, value } = itemOf('NodeReport', `${victim.node}/last_reported_status`, report);
    await store.commit({ compares: [{ key, modRevision: 0n }], writes: [{ key, value }] }, signal);
    const { paths, deps } = newHost();
    const wanted = await options(victim.node);
    const forged = { ...deps, island: victim.deps.island };
    steps.calls = [];
    const refused = rejected('cluster/rejected', /has joined the cluster; remove it on a member/);
    await assert.rejects(joinCluster(wanted, forged), refused);
    assert.deepEqual(steps.calls, ['prepare'], 'no user was changed, and no certificate issued');
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
    const slow = await startFake(cluster.identity.certificate, cluster.identity.key, 500);
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
    assert.ok(!steps.calls.includes(`leave ${node}`));
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
    assert.deepEqual(steps.calls, []);
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
