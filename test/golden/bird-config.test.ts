import { test } from 'node:test';
import { configText } from '../../src/bird/config-text.ts';
import { bgpModel } from '../../src/routing/bgp/bgp-model.ts';
import { cases, inputsOf } from '../../src/routing/bgp/bgp-cases.fixture.ts';
import { golden } from './golden.ts';

for (const [name, one] of Object.entries(cases)) {
  test(`the configuration of BIRD: ${name}`, () => {
    const model = bgpModel(inputsOf(one));
    const problems = model.problems.map(
      ({ resource, field, why }) => `# ${[resource, field].join(' ').trim()} ${why}\n`,
    );
    const text = configText(model, {
      logFile: '/run/calico/bird.log',
      foreignProtocols: [80, 81, 82],
      families: [4, 6],
      programsKernel: true,
    });
    golden(`bird-${name}`, `${problems.join('')}${text}`);
  });
}
