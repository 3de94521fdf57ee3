/**
 * With the policy that `vite.config.ts` sets, a browser refuses to take text for HTML or for a script's address. What is let through here is the page's own workers;
 * HTML is made of text nowhere.
 */
interface TrustedTypes {
  createPolicy(name: string, rules: { readonly createScriptURL: (url: string) => string }): unknown;
}

export function allowOwnScripts(): void {
  const { trustedTypes } = globalThis as { readonly trustedTypes?: TrustedTypes };
  trustedTypes?.createPolicy("default", {
    createScriptURL(url) {
      if (new URL(url, location.href).origin === location.origin) return url;
      throw new TypeError(`Cannot run '${url}': it lies elsewhere, expected a script of this page`);
    },
  });
}
