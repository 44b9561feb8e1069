import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ApplyFailure } from '../../dataplane/apply-failure.ts';
import type { Link } from '../../dataplane/netlink/link.ts';
import { hostMac } from '../../workload/interfaces.ts';
import { cleanHost } from './clean.ts';

function link(name: string, mac: string, kind: 'veth' | 'vxlan' | undefined): Link {
  return {
    index: 1,
    name,
    mac,
    mtuBytes: 1500,
    isUp: true,
    hasCarrier: true,
    leadsOut: true,
    ...(kind === 'veth' ? { is: { kind } } : {}),
  };
}

/** Cleans a host and returns the steps in order. */
async function cleaned(
  links: readonly Link[],
  failures: {
    readonly sets?: ApplyFailure;
    readonly routes?: ApplyFailure;
    readonly tunnels?: ApplyFailure;
  } = {},
): Promise<readonly string[]> {
  const done: string[] = [];
  const note = (what: string) => () => void done.push(what);
  const driver = (name: 'sets' | 'routes') => ({
    resync: note(`read ${name}`),
    failures: () => [failures[name] ?? []].flat(),
  });
  const cleaning = cleanHost(
    {
      tables: ['nft', 'legacy'].map((backend) => async () => note(`tables of ${backend}`)()),
      sets: {
        ...driver('sets'),
        applyAdditions: note('look at sets'),
        applyRemovals: note('remove sets'),
      },
      routes: { ...driver('routes'), apply: async () => note('remove routes')() },
      tunnels: { apply: note('remove tunnels'), failures: () => [failures.tunnels ?? []].flat() },
      links: () => links,
      deleteLink: async (name) => note(`remove ${name}`)(),
      ipv6Forwarding: { switchBack: (keep) => void done.push(`settings but ${[...keep].join()}`) },
    },
    new Set(['net.ipv6.conf.all.forwarding']),
    AbortSignal.timeout(600_000),
  );
  await cleaning.catch((error: unknown) => done.push(String(error)));
  return done;
}

test('everything of calico-cnm is removed, rules before the sets that they name; the settings to keep are passed on', async () => {
  assert.deepEqual(await cleaned([link('cali0123456789a', hostMac, 'veth')]), [
    'tables of nft',
    'tables of legacy',
    'read sets',
    'look at sets',
    'remove sets',
    'read routes',
    'remove routes',
    'remove tunnels',
    'remove cali0123456789a',
    'settings but net.ipv6.conf.all.forwarding',
  ]);
});

test('interfaces created by others are kept, whatever their names', async () => {
  const done = await cleaned([
    link('eth0', hostMac, undefined),
    link('cali0123456789b', '02:00:00:00:00:01', 'veth'),
    link('cali0123456789c', hostMac, undefined),
    link('veth01234567', hostMac, 'veth'),
  ]);
  assert.deepEqual(
    done.filter((what) => /^remove (?!sets|routes|tunnels)/.test(what)),
    [],
  );
});

test('what cannot be removed is reported after everything else has been removed', async () => {
  const failure = { what: 'the set cali40all', why: 'EBUSY' };
  for (const at of ['sets', 'routes', 'tunnels']) {
    const done = await cleaned([link('cali0123456789a', hostMac, 'veth')], { [at]: failure });
    assert.match(done.at(-1) ?? '', /cali40all.*EBUSY/);
    assert.ok(done.includes('remove cali0123456789a'));
    assert.ok(done.includes('settings but net.ipv6.conf.all.forwarding'));
  }
});
