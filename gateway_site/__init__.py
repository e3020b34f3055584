from gateway_site.celery import app as celery_app

__all__ = ["celery_app"]  # what `shared_task` and the console send tasks with
