import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  cases,
  configuration,
  inputsOf,
  node,
  pool,
  type Case,
} from '../routing/bgp/bgp-cases.fixture.ts';
import { bgpModel } from '../routing/bgp/bgp-model.ts';
import { configText } from './config-text.ts';

const options = {
  logFile: '/run/bird.log',
  foreignProtocols: [80],
  families: [4, 6],
  programsKernel: true,
} as const;

function textOf(given: Case): string {
  return configText(bgpModel(inputsOf(given)), options);
}

/** The text of a block that begins with a line, up to its end. */
function blocksOf(text: string, start: RegExp): readonly string[] {
  return text.split(/^(?=protocol |function |filter )/m).filter((part) => start.test(part));
}

test('in every configuration, each route to a peer passes the test for IP pools first and last', () => {
  for (const [name, one] of Object.entries(cases)) {
    const text = textOf(one);
    for (const body of blocksOf(text, /^function after_export/)) {
      const [first = ''] = body.split('\n').slice(2);
      assert.match(first, /^ {2}(reject;|if ! \(net ~ \[ .* \]\) then reject;)$/, name);
    }
    for (const session of blocksOf(text, /^protocol bgp/)) {
      const [, filter = ''] = /export filter \{ (.*) \};/.exec(session) ?? [];
      assert.doesNotMatch(filter, /\baccept\b/, name);
      assert.match(
        filter,
        /; after_export_v[46]\(false, \w+, \d+\);$|^before_export_v[46]\(\); after/,
      );
    }
  }
});

test('a new block changes no session and no filter of a session', () => {
  const before = textOf({ blocks: [] });
  const after = textOf({});
  const sessions = (text: string) => blocksOf(text, /^(protocol bgp|function )/);
  assert.notEqual(before, after);
  assert.deepEqual(sessions(before), sessions(after));
});

test('before its end a speaker withdraws its routes from the kernel, and keeps its sessions', () => {
  const model = bgpModel(inputsOf({}));
  const last = configText(model, { ...options, programsKernel: false });
  assert.doesNotMatch(last, /persist/);
  assert.match(last, /filter kernel_export_v4\n\{\n {2}reject;\n\}/);
  const sessions = (text: string) => blocksOf(text, /^protocol bgp/);
  assert.deepEqual(sessions(last), sessions(textOf({})));
});

test('a thousand nodes are rendered in linear work', () => {
  const nodes = Array.from({ length: 1000 }, (_, index) =>
    node(index === 0 ? 'a' : `node-${index}`, {
      ipv4Address: `192.0.${2 + Math.floor(index / 250)}.${1 + (index % 250)}/16`,
    }),
  );
  const text = textOf({
    nodes,
    configurations: [configuration('default', {})],
    pools: [pool('main', '10.65.0.0/16')],
  });
  assert.equal(blocksOf(text, /^protocol bgp/).length, 999);
});
