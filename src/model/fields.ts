import { z } from 'zod';
import { describe } from '../errors/error.ts';
import { parseAddress, type IpAddress } from '../ip/address.ts';
import { parseCidr, parseNet, type Cidr } from '../ip/cidr.ts';
import { mapOf } from './nulls.ts';

/**
 * Field types shared by resources. Objects are loose: an unknown field survives a rewrite. Fields are in the order in
 * which Calico writes them, which is also the order of output. Rules: Calico's validator
 * (libcalico-go/lib/validator/v3).
 */

const dnsLabel = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';
const subdomain = new RegExp(`^${dnsLabel}(\\.${dnsLabel})*$`);
const labelName = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;

/** Reports whether a text is a legal resource name: lower-case DNS subdomain of at most 253 bytes. */
export function isResourceName(text: string): boolean {
  return text.length <= 253 && subdomain.test(text);
}

/**
 * Reports whether a text is a legal label key: a name of at most 63 characters after an optional DNS prefix and `/`.
 */
export function isLabelKey(text: string): boolean {
  const slash = text.indexOf('/');
  if (slash >= 0 && !isResourceName(text.slice(0, slash))) return false;
  const name = text.slice(slash + 1);
  return name.length <= 63 && labelName.test(name);
}

/** Reports whether a text is a legal label value: empty, or at most 63 of the characters of a label name. */
export function isLabelValue(text: string): boolean {
  return text === '' || (text.length <= 63 && labelName.test(text));
}

/**
 * Reports whether only Calico's own data may set a label: namespaces and service accounts are identified by it, so a
 * container that chose it could pose as one of another namespace.
 */
export function isReservedLabel(key: string): boolean {
  return key.startsWith('projectcalico.org/') || isInheritedLabel(key);
}

/**
 * Reports whether a label is that of a namespace or service account, which endpoints inherit from a Profile; one of an
 * endpoint's own is ignored. Source: libcalico-go/lib/backend/syncersv1/updateprocessors/workloadendpointprocessor.go.
 */
export function isInheritedLabel(key: string): boolean {
  return key.startsWith('pcns.') || key.startsWith('pcsa.');
}

/** A canonical IP address. */
export const address = parsed(parseAddress);

/** A strictly masked network. */
export const cidr = parsed(parseCidr);

/** A strictly masked network or a single address, which becomes its /32 or /128. */
export const net = parsed(parseNet);

export const resourceName = z
  .string()
  .refine(isResourceName, 'must be a lower-case DNS name such as "web" or "my-pool.v4"');

export const labelKey = z.string().refine(isLabelKey, 'is not a legal label key');
export const labelValue = z.string().refine(isLabelValue, 'is not a legal label value');
export const labels = mapOf(labelKey, labelValue, '');

/** Kubernetes-style object metadata as Calico stores it; `resourceVersion` is never stored. */
export const metadata = z.looseObject({
  name: resourceName,
  namespace: z.exactOptional(resourceName),
  uid: z.exactOptional(z.string()),
  creationTimestamp: z.exactOptional(z.string().nullable()),
  resourceVersion: z.exactOptional(z.string()),
  labels: z.exactOptional(labels),
  annotations: z.exactOptional(mapOf(z.string(), z.string(), '')),
});

export type Metadata = z.infer<typeof metadata>;

/** The schema of a v3 resource: fixed kind and apiVersion, metadata, and the spec of the kind. */
export function resource<const K extends string, S extends z.ZodType>(kind: K, spec: S) {
  return z.looseObject({
    kind: z.literal(kind),
    apiVersion: z.literal('projectcalico.org/v3'),
    metadata,
    spec,
  });
}

/** An object with unknown fields that users may write. */
export function openObject<const Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  const object = z.looseObject(shape);
  openObjects.add(object);
  return object;
}

const openObjects = new WeakSet<z.core.$ZodType>();

/** Reports whether users may write fields of an object that its schema does not name. */
export function isOpen(schema: z.core.$ZodType): boolean {
  return openObjects.has(schema);
}

function parsed<T extends IpAddress | Cidr>(parse: (text: string) => T) {
  return z.string().transform((text, context): T => {
    try {
      return parse(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: describe(error) });
      return z.NEVER;
    }
  });
}
