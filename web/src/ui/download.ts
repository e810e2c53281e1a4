import type { Id } from '../jmap/types';
import type { AccountStore } from '../store/account.svelte';

/**
 * Saves a blob as a file. A plain link would not do: it cannot carry the access token.
 * The type given to the browser is opaque, so that nothing a stranger sent opens in our origin.
 */
export async function saveBlob(
  store: AccountStore,
  file: { blobId: Id; name: string; type: string },
): Promise<void> {
  const blob = await store.client.download(store.accountId, file.blobId, file.name, file.type);
  const url = URL.createObjectURL(new Blob([blob], { type: 'application/octet-stream' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = file.name;
  link.click();
  // The browser needs the address a moment longer than the click.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
