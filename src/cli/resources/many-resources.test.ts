import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../../ip/cidr.ts';
import { claimBlock } from '../../ipam/records/records.ts';
import { startCommandLine, type CommandLine } from '../command-line.fixture.ts';

/** Files and pools larger than one transaction. */

function profile(name: string, rules = 1): string {
  const rule = '{action: Allow, protocol: TCP, source: {nets: [10.0.0.0/8]}}';
  return [
    'kind: Profile',
    'apiVersion: projectcalico.org/v3',
    `metadata: {name: ${name}}`,
    `spec: {ingress: [${Array.from({ length: rules }, () => rule).join(', ')}]}`,
    '',
  ].join('\n');
}

/** Returns the names of the stored Profiles. */
function profilesOf(cli: CommandLine): Promise<readonly string[]> {
  return cli.write((draft) => [...draft.entries('Profile')].map(([name]) => name));
}

const names = Array.from({ length: 150 }, (_, index) => `p${index}`);

test('150 resources of one file are created, changed and deleted, one line each', async () => {
  using cli = startCommandLine();
  const documents = names.map((name) => profile(name)).join('---\n');
  const lines = (what: string) => names.map((name) => `Profile ${name} ${what}\n`).join('');
  assert.equal(await cli.ok(['apply', '-f', '-'], documents), lines('created'));
  assert.equal(await cli.ok(['apply', '-f', '-'], documents), lines('unchanged'));
  assert.equal(await cli.ok(['delete', '-f', '-'], documents), lines('deleted'));
  assert.deepEqual(await profilesOf(cli), []);
});

test('resources larger together than a transaction are created', async () => {
  using cli = startCommandLine();
  const documents = names
    .slice(0, 8)
    .map((name) => profile(name, 4000))
    .join('---\n');
  const output = await cli.ok(['apply', '-f', '-'], documents);
  assert.equal(output.split('\n').filter((line) => line.endsWith(' created')).length, 8);
});

test('one invalid resource prevents writing of the whole file', async () => {
  using cli = startCommandLine();
  const bad = profile('bad').replace('10.0.0.0/8', '300.0.0.0/8');
  for (const documents of [
    [...names.map((name) => profile(name)), bad].join('---\n'),
    `${names.map((name) => profile(name)).join('---\n')}---\nkind: ClusterInformation\napiVersion: projectcalico.org/v3\nmetadata: {name: default}\nspec: {}\n`,
  ]) {
    const { status, out } = await cli.run(['apply', '-f', '-'], documents);
    assert.deepEqual([status, out], [1, '']);
    assert.deepEqual(await profilesOf(cli), []);
  }
  await cli.ok(['apply', '-f', '-'], profile('p0'));
  const { status, out, error } = await cli.run(['delete', 'profile', 'p0', 'p1']);
  assert.deepEqual([status, out], [1, 'Profile p0 deleted\n']);
  assert.match(error, /Profile p1 does not exist/);
  assert.deepEqual(await profilesOf(cli), []);
});

test('a resource too large for a transaction is named, and the others are written', async () => {
  using cli = startCommandLine();
  const documents = [profile('a'), profile('huge', 30_000), profile('b')].join('---\n');
  const { status, out, error } = await cli.run(['apply', '-f', '-'], documents);
  assert.equal(status, 1);
  assert.equal(out, 'Profile a created\nProfile b created\n');
  assert.match(
    error,
    /^calico-cnm: 1 of 3 resources failed \(Profile huge\): [^\n]* MB of at most 1\.5 MB\), nothing was written; [^\n]*; the others were written\n$/,
  );
});

test('an IP pool of 150 blocks is deleted', async () => {
  using cli = startCommandLine();
  const pool =
    'kind: IPPool\napiVersion: projectcalico.org/v3\nmetadata: {name: ten}\nspec: {cidr: 10.99.0.0/16}\n';
  await cli.ok(['apply', '-f', '-'], pool);
  for (let from = 0; from < 150; from += 50) {
    await cli.write((draft) => {
      for (let index = from; index < from + 50; index++) {
        const cidr = parseCidr(`10.99.${index}.0/26`);
        claimBlock(draft, { cidr, host: 'a', now: new Date() });
      }
    });
  }
  assert.equal(await cli.ok(['delete', 'ippool', 'ten']), 'IPPool ten deleted\n');
  assert.doesNotMatch(await cli.ok(['ipam', 'show', '--show-blocks']), /10\.99/);
});
