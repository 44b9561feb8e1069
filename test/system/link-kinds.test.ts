import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, describe, test } from 'node:test';
import { z } from 'zod';
import { madeLinks } from '../lab/link-kinds-process.ts';
import { enterNewNamespace } from '../lab/namespace.ts';

const namespace = enterNewNamespace();
after(() => namespace[Symbol.dispose]());

const shownLinks = z.record(
  z.string(),
  z.object({
    ip: z.object({
      mtu: z.number(),
      linkinfo: z.object({
        info_kind: z.string(),
        info_data: z.record(z.string(), z.unknown()).optional(),
      }),
    }),
    told: z.unknown(),
  }),
);

/** What `ip -d link` says of each. */
const byIp: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  vxlan4: { id: 4096, port: 4789, local: '192.0.2.1', learning: false },
  vxlan6: { id: 4097, port: 4790, local6: '2001:db8::1', learning: false, link: 'lo' },
  ipip0: { local: '192.0.2.1', remote: 'any', pmtudisc: true },
  ipip1: { local: '192.0.2.1', remote: '192.0.2.2', pmtudisc: true },
  wg0: {},
  vrf0: { table: 4242 },
};

const node = process.execPath;
const script = 'test/lab/link-kinds-process.ts';
/** A command that runs another one in a kernel that has all kinds, where this one has not. */
const machine = process.env['CALICO_TEST_MACHINE'];

function show(argv: readonly [string, ...string[]]) {
  const [file, ...rest] = argv;
  return shownLinks.parse(JSON.parse(execFileSync(file, rest, { encoding: 'utf8' })));
}

describe('links of every kind, as ip sees them', { timeout: 600_000 }, () => {
  const here = show([node, script]);
  const isAll = Object.keys(madeLinks).every((name) => name in here);
  const there = !isAll && machine !== undefined ? show([machine, '--', node, script]) : {};
  for (const [name, wanted] of Object.entries(madeLinks)) {
    const shown = here[name] ?? there[name];
    const skip =
      shown === undefined
        ? `this kernel has no ${wanted.kind} links, and CALICO_TEST_MACHINE names no other`
        : false;
    test(`${wanted.kind}: ${name}`, { skip }, () => {
      const { ip, told } = shown ?? assert.fail();
      assert.equal(ip.linkinfo.info_kind, wanted.kind);
      assert.equal(ip.mtu, 1400);
      assert.deepEqual({ ...ip.linkinfo.info_data, ...byIp[name] }, { ...ip.linkinfo.info_data });
      assert.deepEqual(told, JSON.parse(JSON.stringify(wanted)), 'we read what we wrote');
    });
  }
});
