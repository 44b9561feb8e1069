import { isResourceName } from './fields.ts';

/**
 * Namespaces: part of the key of an endpoint, chosen when its network is created. Endpoints inherit the labels of their
 * namespace by a Profile. Source: libcalico-go/lib/backend/k8s/conversion, ToProfile.
 */

/** The namespace of endpoints on networks that name none, as of those of libnetwork-plugin. */
export const defaultNamespace = 'libnetwork';

/** Reports whether a text is a legal namespace: one RFC 1123 label of at most 63 characters. */
export function isNamespace(text: string): boolean {
  return text.length <= 63 && !text.includes('.') && isResourceName(text);
}

const profilePrefix = 'kns.';

/** Returns the name of the Profile by which endpoints of a namespace inherit its labels. */
export function namespaceProfileName(namespace: string): string {
  return `${profilePrefix}${namespace}`;
}

/** Returns the namespace whose labels a Profile of that name gives to endpoints; `undefined` for any other Profile. */
export function namespaceOfProfile(name: string): string | undefined {
  return name.startsWith(profilePrefix) ? name.slice(profilePrefix.length) : undefined;
}

/** Reports whether endpoints have a Profile of that name only by their namespace or service account. */
export function isReservedProfileName(name: string): boolean {
  return namespaceOfProfile(name) !== undefined || name.startsWith('ksa.');
}

/** Prefix of the labels of a namespace in the Profile. */
export const namespaceLabelPrefix = 'pcns.';

/** The label of each namespace with its name. */
export const namespaceNameLabel = `${namespaceLabelPrefix}projectcalico.org/name`;
