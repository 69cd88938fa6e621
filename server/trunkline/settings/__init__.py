"""Parts of the settings, a file each; :mod:`trunkline.config` puts them together, and is what others read."""
