from django.apps import AppConfig


class ConfigFilesConfig(AppConfig):
    name = "apps.config_files"
    label = "config_files"
    verbose_name = "Configuration as files"
