import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { clusterPaths, type ClusterPaths } from '../cluster-file.ts';
import { createAuthority } from './authority.ts';
import { daysLeft, readCertificate } from './certificate.ts';
import { commonNames } from './common-names.ts';
import { issueOwnCertificates, memberCertificates, reasonToIssue } from './own-certificates.ts';

const now = new Date('2026-03-01T12:00:00Z');
const daysLater = (days: number) => new Date(now.getTime() + days * 86_400_000);

async function inFolder(use: (paths: ClusterPaths) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'calico-certificates-'));
  try {
    await use(clusterPaths({ datastoreFile: join(folder, 'calico.db') }));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const wantedOf = (paths: ClusterPaths, names = ['192.0.2.1', '2001:db8::1', 'host-1']) =>
  memberCertificates(paths, { user: 'node.host-1', names });

describe('certificates of a member', () => {
  test('missing ones are issued, once; keys are readable by root alone', () =>
    inFolder(async (paths) => {
      const authority = await createAuthority(now);
      const wanted = wantedOf(paths);
      const issued = await issueOwnCertificates(authority, wanted, now);
      assert.deepEqual(
        issued.map(({ reason }) => reason),
        wanted.map(() => 'missing'),
      );
      assert.deepEqual(await issueOwnCertificates(authority, wanted, now), []);
      for (const { keyFile } of wanted) assert.equal(statSync(keyFile).mode & 0o777, 0o600);
      const users = wanted.map(({ certFile }) => readCertificate(readFileSync(certFile, 'utf8')));
      assert.deepEqual(
        users.map(({ commonName }) => commonName),
        [commonNames.server, commonNames.peer, 'root', 'node.host-1'],
      );
    }));

  test('in the last third of their validity they are renewed with the same keys', () =>
    inFolder(async (paths) => {
      const authority = await createAuthority(now);
      const wanted = wantedOf(paths);
      await issueOwnCertificates(authority, wanted, now);
      const keys = wanted.map(({ keyFile }) => readFileSync(keyFile, 'utf8'));
      const issued = await issueOwnCertificates(authority, wanted, daysLater(300));
      assert.deepEqual(
        issued.map(({ reason }) => reason),
        wanted.map(() => 'due for renewal'),
      );
      assert.deepEqual(
        wanted.map(({ keyFile }) => readFileSync(keyFile, 'utf8')),
        keys,
      );
      const renewed = readCertificate(readFileSync(paths.serverCert, 'utf8'));
      assert.equal(daysLeft(renewed, daysLater(300)), 365);
    }));

  test('a host with another address gets certificates with it, for its servers only', () =>
    inFolder(async (paths) => {
      const authority = await createAuthority(now);
      await issueOwnCertificates(authority, wantedOf(paths), now);
      const issued = await issueOwnCertificates(authority, wantedOf(paths, ['192.0.2.9']), now);
      assert.deepEqual(
        issued.map(({ certificate, reason }) => [certificate.certFile, reason]),
        [
          [paths.serverCert, 'other names'],
          [paths.peerCert, 'other names'],
        ],
      );
    }));

  test('a damaged file, another key and another authority are detected', () =>
    inFolder(async (paths) => {
      const authority = await createAuthority(now);
      const wanted = wantedOf(paths);
      await issueOwnCertificates(authority, wanted, now);
      const other = await createAuthority(now);
      for (const one of wanted) {
        assert.equal(reasonToIssue(one, other.certificate, now), 'other authority');
        assert.equal(reasonToIssue(one, authority.certificate, now), undefined);
      }
      writeFileSync(paths.serverCert, '');
      writeFileSync(paths.peerKey, readFileSync(paths.nodeKey));
      writeFileSync(paths.adminKey, 'no key');
      const issued = await issueOwnCertificates(authority, wanted, now);
      assert.deepEqual(
        issued.map(({ certificate }) => certificate.certFile),
        [paths.serverCert, paths.peerCert, paths.adminCert],
      );
      assert.deepEqual(await issueOwnCertificates(authority, wanted, now), []);
    }));
});
