import { allowChain, passChain } from './names.ts';
import { dropsIfRefused, markBits, type Chain } from './rule.ts';

/**
 * Returns the chains that a rule of a policy goes to if it allows a packet, or passes it on: they mark the packet, and
 * return to what led to the policy. So a rule of a policy is one rule of the kernel.
 */
export function verdictChains(): readonly Chain[] {
  return [
    {
      name: allowChain,
      rules: [{ matches: [], action: { kind: 'setMark', bits: markBits.accept } }],
      ifRefused: dropsIfRefused('verdict of policies (what they allow is denied)'),
    },
    {
      name: passChain,
      rules: [{ matches: [], action: { kind: 'setMark', bits: markBits.pass } }],
      ifRefused: dropsIfRefused('verdict of policies (what they pass on is denied)'),
    },
  ];
}
