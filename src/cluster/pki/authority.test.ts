import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:tls';
import { describe, test } from 'node:test';
import { isCalicoError } from '../../errors/error.ts';
import { createAuthority, createKey, createRequest, issue, renewAuthority } from './authority.ts';
import {
  daysLeft,
  fingerprint,
  isDueForRenewal,
  isSignedBy,
  readCertificate,
} from './certificate.ts';
import { issueKeyPair } from './key-pair.fixture.ts';

const now = new Date('2026-03-01T12:00:00Z');
const daysLater = (days: number) => new Date(now.getTime() + days * 86_400_000);

describe('certificates of a cluster', () => {
  test('a certificate says what the issuer decided, not what the request asks for', async () => {
    const authority = await createAuthority(now);
    const key = await createKey();
    const request = await createRequest(key);
    const certificate = await issue(
      authority,
      {
        request,
        usage: 'server',
        commonName: 'etcd',
        names: ['192.0.2.1', '2001:db8::1', 'host-1'],
      },
      now,
    );
    const facts = readCertificate(certificate);
    assert.equal(facts.commonName, 'etcd');
    assert.deepEqual(facts.names, ['192.0.2.1', '2001:DB8:0:0:0:0:0:1', 'host-1']);
    const parsed = new X509Certificate(certificate);
    assert.ok(parsed.checkPrivateKey(createPrivateKey(key)));
    assert.equal(parsed.checkIP('2001:db8::1'), '2001:db8::1');
    assert.ok(isSignedBy(certificate, authority.certificate));
    assert.ok(!isSignedBy(certificate, (await createAuthority(now)).certificate));
    assert.ok(!parsed.ca);
  });

  test('it is valid for a host whose clock is a day behind, and never longer than its authority', async () => {
    const authority = await createAuthority(now);
    const { certificate } = await issueKeyPair(
      authority,
      { usage: 'client', commonName: 'a' },
      now,
    );
    const facts = readCertificate(certificate);
    assert.ok(facts.notBefore <= daysLater(-1));
    assert.equal(daysLeft(facts, now), 365);
    assert.equal(daysLeft(facts, daysLater(366)), -1);
    const late = await issueKeyPair(
      authority,
      { usage: 'client', commonName: 'a' },
      daysLater(3600),
    );
    assert.equal(daysLeft(readCertificate(late.certificate), daysLater(3600)), 50);
  });

  test('it is due for renewal in the last third of its validity', async () => {
    const authority = await createAuthority(now);
    const { certificate } = await issueKeyPair(
      authority,
      { usage: 'client', commonName: 'a' },
      now,
    );
    const facts = readCertificate(certificate);
    assert.deepEqual(
      [0, 200, 250, 364, 400].map((days) => isDueForRenewal(facts, daysLater(days))),
      [false, false, true, true, true],
    );
  });

  test('a request that its key has not signed is rejected', async () => {
    const authority = await createAuthority(now);
    const request = await createRequest(await createKey());
    const der = Buffer.from(request.replaceAll(/-----.*-----|\s/g, ''), 'base64');
    der.writeUInt8(der.readUInt8(der.length - 1) ^ 1, der.length - 1);
    const changed = `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
    for (const bad of [changed, 'no request', '']) {
      await assert.rejects(
        issue(authority, { request: bad, usage: 'client', commonName: 'a' }, now),
        (error) => isCalicoError(error, 'cluster/bad-certificate'),
      );
    }
  });

  test('a name with other characters, and longer than X.520 allows, survives', async () => {
    const authority = await createAuthority(now);
    const commonName = `a,b=c+d"${'x'.repeat(250)}`;
    const { certificate } = await issueKeyPair(authority, { usage: 'client', commonName }, now);
    assert.equal(readCertificate(certificate).commonName, commonName);
  });

  test('TLS with certificates on both sides accepts a client of the authority and no other', async () => {
    const real = new Date();
    const authority = await createAuthority(real);
    const stranger = await createAuthority(real);
    const server = await issueKeyPair(
      authority,
      { usage: 'server', commonName: 's', names: ['127.0.0.1'] },
      real,
    );
    const of = (by: typeof authority) =>
      issueKeyPair(by, { usage: 'client', commonName: 'node' }, real);
    const listening = createServer(
      {
        cert: server.certificate,
        key: server.key,
        ca: authority.certificate,
        requestCert: true,
        rejectUnauthorized: true,
      },
      (socket) => {
        socket.end(String(socket.getPeerCertificate().subject.CN));
      },
    );
    listening.on('tlsClientError', () => undefined);
    listening.listen(0, '127.0.0.1');
    await once(listening, 'listening');
    const address = listening.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const ask = async ({ certificate, key }: typeof server) => {
      const socket = connect({
        host: '127.0.0.1',
        port,
        ca: authority.certificate,
        cert: certificate,
        key,
      });
      let text = '';
      socket.setEncoding('utf8').on('data', (data: string) => {
        text += data;
      });
      await once(socket, 'end');
      return text;
    };
    try {
      assert.equal(await ask(await of(authority)), 'node');
      // With TLS 1.3 the client may see the end of the connection before the alert.
      assert.equal(await ask(await of(stranger)).catch(() => ''), '');
    } finally {
      listening.close();
    }
  });

  test('an authority is renewed with its key: its fingerprint stays, and what it signed is valid with either', async () => {
    const former = await createAuthority(now);
    const before = await issueKeyPair(
      former,
      { usage: 'server', commonName: 'calico-cnm etcd server', names: ['127.0.0.1'] },
      now,
    );
    const later = new Date(now.getTime() + 9 * 365 * 86_400_000);
    const certificate = await renewAuthority(former, later);
    const renewed = { certificate, key: former.key };
    assert.equal(fingerprint(certificate), fingerprint(former.certificate));
    assert.notEqual(
      fingerprint(certificate),
      fingerprint((await createAuthority(now)).certificate),
    );
    const after = await issueKeyPair(renewed, { usage: 'client', commonName: 'node.a' }, later);
    assert.equal(daysLeft(readCertificate(certificate), later), 3650);
    for (const { certificate: leaf } of [before, after]) {
      assert.ok(isSignedBy(leaf, former.certificate) && isSignedBy(leaf, certificate));
    }
  });
});
