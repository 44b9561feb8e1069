import { shortened } from './printable.ts';
import { entry } from './spec.ts';

/** Invalid addresses, names and resources. */
export const modelErrors = {
  'model/bad-address': entry('input', (d: { text: string }) => `"${d.text}" is not an IP address`),
  'model/bad-cidr': entry(
    'input',
    (d: { text: string }) => `"${d.text}" is not a CIDR such as 10.65.0.0/16 or fd00::/48`,
  ),
  'model/cidr-host-bits': entry(
    'input',
    (d: { text: string; masked: string }) =>
      `"${d.text}" has host bits set; the network is ${d.masked}`,
  ),
  'model/bad-selector': entry(
    'input',
    (d: { selector: string; at: number; why: string }) =>
      `selector "${shortened(d.selector)}": syntax error at character ${d.at + 1}: ${d.why}`,
  ),
  'model/invalid': entry(
    'input',
    (d: { kind: string; name: string; field: string; why: string }) =>
      `${d.kind} ${d.name}: ${d.field === '' ? '' : `${d.field}: `}${d.why}`,
  ),
  'model/not-enforced': entry(
    'input',
    (d: { kind: string }) =>
      `${d.kind} is not enforced by calico-cnm: it has a meaning only for other hosts`,
  ),
  'model/unknown-kind': entry(
    'input',
    (d: { kind: string; known: string }) => `unknown kind "${d.kind}"; known: ${d.known}`,
  ),
} as const;
